"""``InMemoryAuthsvc``: authsvc's own decisions, in the process of a test."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from authsvc.common import arguments, extras

extras.need(__name__, "server", "jwt", "cryptography")
# isort: split

from authsvc.access.callers import LOCAL_CALLER, Caller
from authsvc.access.limits import CallerLimits
from authsvc.access.rates import CallRates
from authsvc.access.usage import Usages
from authsvc.admin.issuers import IssuerWatch, WatchedIssuer
from authsvc.admin.revocations import Revocations
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest, is_credential_name
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import CallCounts, RateLimit
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Credentials, NotOpenError, Principal, Resolution, Secret
from authsvc.domain.revocation_target import SubjectTarget
from authsvc.resolver.resolver import SessionResolver
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.minting import mint
from mcp_adapter.testing.principals import ISSUER, LIFETIME_SECONDS

_Issue = Callable[[Principal], Credentials | None]

MAX_SESSIONS = 10_000
"""Unauthenticated sessions that are kept."""


class InMemoryAuthsvc:
    """A ``Resolver`` with authsvc's decision table, token checks and revocation, without a port, a
    file or a connection: for ``SessionGate(..., resolver=InMemoryAuthsvc(resource))``.

    It is open within ``async with``, which the gate enters with the server's lifespan, and begins
    with no session each time.

    Args:
        resource: canonical URI of the server that asks; requests for another one are denied.
        clock: seconds since the epoch, for sessions, tokens and limits.
        credentials: what is issued for a principal; None for nothing.
        named: the same by name. As with authsvc, a name that is not among them is an error, and so
            is a bucket that is not one of the token's.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``resource`` is no canonical URI, or a name is none.
    """

    def __init__(
        self,
        resource: str,
        *,
        clock: Callable[[], float] = time.time,
        credentials: Callable[[Principal], Credentials | None] | None = None,
        named: Mapping[str, Callable[[Principal], Credentials | None]] | None = None,
    ) -> None:
        self.resource = arguments.resource("resource", resource)
        arguments.function("clock", clock, ())
        if credentials is not None:
            arguments.function("credentials", credentials, ("principal",))
        self._clock = clock
        self._brokers = _by_name(named)
        if credentials is not None:
            self._brokers[""] = credentials
        self._caller = Caller(LOCAL_CALLER, frozenset({self.resource}))
        self._key = VerificationKey(None, "HS256", secrets.token_bytes(32))
        self._keys = KeySet((self._key,))
        self._parts: tuple[SessionResolver, Revocations] | None = None
        self._times_open = 0

    async def __aenter__(self) -> Self:
        """Open it. Gates may share it: it is closed with the last of them."""
        self._times_open += 1
        if self._parts is None:
            self._parts = self._assembled()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self._times_open -= 1
        if not self._times_open:
            self._parts = None

    def token(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        client_id: str = "",
        lifetime_seconds: float = LIFETIME_SECONDS,
        **claims: object,
    ) -> str:
        """A new token of its issuer, ``ISSUER``, for ``Authorization: Bearer``.

        Args:
            subject: claim ``sub``.
            scopes: claim ``scope``.
            roles: claim ``roles``.
            client_id: claim ``client_id``; none if empty.
            lifetime_seconds: until it expires; negative for one that has expired.
            claims: further claims, and others in place of its own, such as ``aud``. One of None is
                left out.

        Raises:
            TypeError: an argument is of another type.
            ValueError: no token could hold one of the scopes.
        """
        now = self._clock()
        made = {
            "iss": ISSUER,
            "sub": arguments.instance_of("subject", subject, str),
            "aud": self.resource,
            "scope": " ".join(arguments.scopes("scopes", scopes)),
            "roles": list(arguments.texts("roles", roles)),
            "client_id": client_id or None,
            "iat": now + min(lifetime_seconds, 0.0),
            "exp": now + lifetime_seconds,
            "jti": secrets.token_urlsafe(12),
            **claims,
        }
        return mint({name: it for name, it in made.items() if it is not None}, self._key)

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
        """Decide on one request, as ``AuthClient.resolve`` does."""
        resolver, _ = self._opened()
        return await resolver.resolve(
            session_id,
            token,
            resource=self._permitted(resource),
            create=create,
            counts=CallCounts(tuple(rate_limits), calls, recheck),
            credentials=credentials,
        )

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """Create a session, as ``AuthClient.create`` does."""
        resolver, _ = self._opened()
        counts = CallCounts(tuple(rate_limits))
        return await resolver.create(
            token, resource=self._permitted(resource), counts=counts, credentials=credentials
        )

    async def revoke(self, session_id: str) -> None:
        """End a session, as ``AuthClient.revoke`` does."""
        resolver, _ = self._opened()
        await resolver.revoke(session_id)

    async def revoke_subject(self, subject: str) -> None:
        """Revoke all tokens of a subject that exist by now, as ``authsvc sessions revoke`` does.

        Raises:
            AuthError: ARGUMENT_INVALID for what is no subject.
            NotOpenError: it is not open.
        """
        _, revocations = self._opened()
        await revocations.revoke(SubjectTarget(ISSUER, subject), caller=LOCAL_CALLER)

    def _opened(self) -> tuple[SessionResolver, Revocations]:
        """
        Raises:
            NotOpenError: it is not open.
        """
        if self._parts is None:
            raise NotOpenError("InMemoryAuthsvc is used within `async with`")
        return self._parts

    def _permitted(self, resource: str) -> str:
        """
        Raises:
            AuthError: RESOURCE_INVALID or CALLER_NOT_ALLOWED.
        """
        self._caller.authorize(resource)
        return self._caller.spelled(resource)

    def _assembled(self) -> tuple[SessionResolver, Revocations]:
        clock, store = self._clock, MemoryStore(unauthenticated_cap=MAX_SESSIONS)
        resolver = SessionResolver(
            JwtVerifier([Issuer(ISSUER, self._keys)]),
            store,
            _Broker(self._brokers),
            limits=Limits(),
            usages=Usages(CallerLimits(), clock),
            clock=clock,
            rates=CallRates(clock=clock),
        )
        watch = IssuerWatch([WatchedIssuer(ISSUER, "secret_file", self._keys)], "")
        revocations = Revocations(
            store, end_session=resolver.revoke, issuers=watch.status, clock=clock
        )
        return resolver, revocations


class _Broker:
    """A ``CredentialBroker`` with what a test gives."""

    def __init__(self, brokers: Mapping[str, _Issue]) -> None:
        self._brokers = brokers

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``."""
        if not set(wanted.buckets) <= set(principal.buckets):
            raise AuthError(Reason.CREDENTIALS_REFUSED, "a bucket is not one of the token's")
        issue = self._brokers.get(wanted.name)
        if issue is not None:
            return issue(principal)
        if wanted.name:
            raise AuthError(Reason.ARGUMENT_INVALID, f"no credentials are named {wanted.name!r}")
        return None


def _by_name(named: Mapping[str, _Issue] | None) -> dict[str, _Issue]:
    """
    Raises:
        TypeError: it is no mapping of names to functions.
        ValueError: a name is none.
    """
    if named is None:
        return {}
    arguments.mapping("named", named)
    for name, issue in named.items():
        if not is_credential_name(arguments.instance_of("named", name, str)):
            raise ValueError("named: a name is 1 to 64 letters, digits, '.', '_' and '-'")
        arguments.function(f"named[{name!r}]", issue, ("principal",))
    return dict(named)
