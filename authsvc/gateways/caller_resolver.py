"""The resolver as one gateway asks it: its limits and its metrics, and cached resolutions."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from authsvc.access.callers import Caller
from authsvc.access.usage import REJECTED_TOKENS
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError
from authsvc.domain.rates import CallCounts, RateLimit
from authsvc.domain.resolution import Resolution
from authsvc.domain.tokens import token_digest
from authsvc.gateways.clients import client_address
from authsvc.resolver.request import Request, bearer
from authsvc.resolver.resolver import SessionResolver
from authsvc.resolver.response_cache import CachedResponse
from authsvc.telemetry.counts import Resolves


@dataclass(frozen=True, slots=True)
class Issued:
    """Which credentials are issued with a request.

    Attributes:
        selection: those it asks for by name; None for ``wanted``.
        wanted: as ``Resolution.credentials``.
        text: both, as part of a digest.
    """

    selection: tuple[CredentialRequest, ...] | None
    wanted: CredentialRequest
    text: str

    @classmethod
    def of(
        cls,
        wanted: CredentialRequest | None,
        selection: Sequence[CredentialRequest] | None = None,
    ) -> Self:
        """
        Args:
            wanted: as ``Resolution.credentials``; None for none.
            selection: those that are asked for by name; None where it is not asked so.
        """
        if selection is None and wanted is None:
            selection = ()
        asked = None if selection is None else tuple(selection)
        return cls(asked, wanted or DEFAULT, repr(wanted if asked is None else asked))

    def asked(self, selection: Sequence[CredentialRequest] | None) -> Issued:
        """These, unless a request asks for some by name."""
        return self if selection is None else Issued.of(None, selection)


class CallerResolver:
    """A ``domain.resolution.CountingResolver`` for the calls of one gateway, once admitted.

    Args:
        resolver: decides.
        caller: the gateway.
        resolves: where results are counted.
        wanted: which credentials are issued where a request names none; None for none at all.
    """

    def __init__(
        self,
        resolver: SessionResolver,
        caller: Caller,
        resolves: Resolves,
        *,
        wanted: CredentialRequest | None = DEFAULT,
    ) -> None:
        self._resolver = resolver
        self._issued = Issued.of(wanted)
        self._caller = caller
        self._resolves = resolves

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        rate_limits: Sequence[RateLimit] = (),
        calls: int = 1,
        recheck: bool = False,
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """See ``CountingResolver``, as for the other methods."""
        counts = CallCounts(tuple(rate_limits), calls, recheck)
        issued = self._issued.asked(credentials)
        digest = request_digest(
            session_id, token_digest(token), resource, create=create, issued=issued
        )
        if (cached := self._resolver.cached_response(digest)) is not None:
            self._count(cached, counts)
            self._resolves.cached += 1
            return cached.resolution
        ask = partial(
            self._resolver.resolve,
            session_id,
            create=create,
            request_digest=digest,
            counts=counts,
            credentials=issued.selection,
            wanted=issued.wanted,
        )
        return await self._decided(ask, session_id, token, resource)

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        counts = CallCounts(tuple(rate_limits))
        issued = self._issued.asked(credentials)
        ask = partial(
            self._resolver.create,
            counts=counts,
            credentials=issued.selection,
            wanted=issued.wanted,
        )
        return await self._decided(ask, "", token, resource)

    async def revoke(self, session_id: str) -> None:
        await self._resolver.revoke(
            session_id, resources=self._caller.resources, caller=self._caller.name
        )

    def _count(self, cached: CachedResponse, counts: CallCounts) -> None:
        """Count a request with a cached response; what it counts as is no part of its digest.

        Raises:
            AuthError: RATE_LIMITED.
        """
        try:
            self._resolver.call_limits.count_as(cached, self._caller.name, counts, client_address())
        except AuthError as error:
            self._resolves.failed(error)
            raise

    async def _decided(
        self,
        ask: Callable[..., Awaitable[Resolution]],
        session_id: str,
        token: str,
        resource: str,
    ) -> Resolution:
        """What the resolver decides, counted.

        Args:
            ask: calls the resolver.
            session_id: see ``Resolver.resolve``, as for the others; empty for none.
        """
        client = client_address()
        try:
            self._reject_now(session_id, token, resource, client)
            with self._resolves.deciding():
                resolution = await ask(
                    token, resource=resource, caller=self._caller.name, client_address=client
                )
        except Exception as error:
            self._resolves.failed(error)
            raise
        self._resolves.answered(resolution)
        return resolution

    def _reject_now(self, session_id: str, token: str, resource: str, client: str) -> None:
        """
        Raises:
            AuthError: the request is rejected without a decision.
        """
        caller = self._caller.name
        request = Request(caller, session_id, bearer(token), resource, client_address=client)
        wait = self._resolver.seconds_until_check(request)
        if wait > 0.0:
            raise REJECTED_TOKENS.error(wait)
        if (rejection := self._resolver.rejection_now(request)) is not None:
            raise rejection


def request_digest(
    session_id: str,
    token: bytes,
    resource: str,
    *,
    create: bool,
    issued: Issued,
) -> bytes:
    """The key of a request in the response cache.

    It is never that of a ``ResolveSessionRequest``: no message begins with a 7, which would be a
    field 0 of no known type.

    Args:
        session_id: see ``Resolver.resolve``, as for the others.
        token: digest of the token.
        issued: which credentials are.
    """
    texts = f"{len(session_id)},{session_id}{len(issued.text)},{issued.text}{resource}"
    encoded = texts.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"\x07%d%b%b" % (create, token, encoded)).digest()
