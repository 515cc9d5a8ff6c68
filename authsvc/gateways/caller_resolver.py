"""The resolver as one gateway asks it: its limits and its metrics, and cached resolutions."""

from __future__ import annotations

import hashlib

from authsvc.access.callers import Caller
from authsvc.access.usage import REJECTED_TOKENS
from authsvc.domain.resolution import Resolution
from authsvc.domain.tokens import token_digest
from authsvc.gateways.clients import client_address
from authsvc.resolver.request import Request, bearer
from authsvc.resolver.resolver import SessionResolver
from authsvc.telemetry.counts import Resolves


class CallerResolver:
    """A ``domain.resolution.Resolver`` for the calls of one gateway, which have been admitted.

    Args:
        resolver: decides.
        caller: the gateway.
        resolves: where results are counted.
    """

    def __init__(self, resolver: SessionResolver, caller: Caller, resolves: Resolves) -> None:
        self._resolver = resolver
        self._caller = caller
        self._resolves = resolves

    async def resolve(
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        """See ``Resolver``, as for the other methods."""
        digest = request_digest(session_id, token_digest(token), resource, create=create)
        if (cached := self._resolver.cached_response(digest)) is not None:
            self._resolves.cached += 1
            return cached.resolution
        try:
            client = client_address()
            self._reject_now(session_id, token, resource, client)
            with self._resolves.deciding():
                resolution = await self._resolver.resolve(
                    session_id,
                    token,
                    resource=resource,
                    create=create,
                    caller=self._caller.name,
                    request_digest=digest,
                    client_address=client,
                )
        except Exception as error:
            self._resolves.failed(error)
            raise
        self._resolves.answered(resolution)
        return resolution

    async def create(self, token: str, *, resource: str) -> Resolution:
        try:
            client = client_address()
            self._reject_now("", token, resource, client)
            with self._resolves.deciding():
                resolution = await self._resolver.create(
                    token,
                    resource=resource,
                    caller=self._caller.name,
                    client_address=client,
                )
        except Exception as error:
            self._resolves.failed(error)
            raise
        self._resolves.answered(resolution)
        return resolution

    async def revoke(self, session_id: str) -> None:
        await self._resolver.revoke(
            session_id, resources=self._caller.resources, caller=self._caller.name
        )

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


def request_digest(session_id: str, token: bytes, resource: str, *, create: bool) -> bytes:
    """The key of a request in the response cache.

    It is never that of a ``ResolveSessionRequest``: no message begins with a 7, which would be a
    field 0 of no known type.

    Args:
        session_id: see ``Resolver.resolve``, as for the others.
        token: digest of the token.
    """
    texts = f"{len(session_id)},{session_id}{resource}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"\x07%d%b%b" % (create, token, texts)).digest()
