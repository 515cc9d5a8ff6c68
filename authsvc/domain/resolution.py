"""The result of a resolve: the values that service, client and gate share.

Plain values and one protocol. Times are seconds since the epoch (UTC).
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from sys import getsizeof
from typing import Any, Protocol

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError
from authsvc.domain.rates import RateLimit
from authsvc.domain.read_only import parsed, read_only

SESSION_ID_MAX_LENGTH = 128
"""Longest session id that is accepted, in characters."""

SESSION_ID_SHOWN = 8
"""Characters of a session id that may be shown: enough to identify it, too few to use it."""


def shown(session_id: str) -> str:
    """The part of a session id that logs and operators see."""
    return session_id[:SESSION_ID_SHOWN] + "…"


_OBJECT_BYTES = 200
"""Bytes that a small object takes, its numbers included."""


class Secret:
    """Text that does not leak: no repr, str, format, pickle or attribute shows it.

    Compares in constant time. Only ``reveal`` returns the text.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself."""
        return self.__value

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("secrets are not pickled")


MAX_ACTORS = 8
"""Actors in a chain, the current one included. Real ones have one or two."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts for the subject: one step of a chain of delegation (RFC 8693 section 4.1).

    Access is decided by the token's subject and, at the most, by the current actor. Actors before
    it are information alone.

    Attributes:
        subject: member ``sub``: unique at its issuer alone.
        issuer: member ``iss``; empty when absent, where the subject is one of the token's issuer.
        client_id: member ``client_id``; empty when absent.
        actor: member ``act``: the actor before this one; None for the first.
    """

    subject: str
    issuer: str = ""
    client_id: str = ""
    actor: Actor | None = None

    def chain(self) -> Iterator[Actor]:
        """This actor and those before it, the current one first."""
        actor: Actor | None = self
        while actor is not None:
            yield actor
            actor = actor.actor

    def claim(self) -> dict[str, object]:
        """The chain as the value of claim ``act``."""
        found: dict[str, object] = {"sub": self.subject}
        if self.issuer:
            found["iss"] = self.issuer
        if self.client_id:
            found["client_id"] = self.client_id
        if self.actor is not None:
            found["act"] = self.actor.claim()
        return found

    def memory_bytes(self) -> int:
        """Bytes that the chain takes in memory: an estimate for caches."""
        return sum(
            _OBJECT_BYTES + getsizeof(it.subject) + getsizeof(it.issuer) + getsizeof(it.client_id)
            for it in self.chain()
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity of a request, by one verified token.

    Attributes:
        issuer: claim ``iss`` (RFC 7519 section 4.1.1).
        subject: claim ``sub`` (RFC 7519 section 4.1.2) or the issuer's configured one.
        expire_time: claim ``exp`` (RFC 7519 section 4.1.4).
        client_id: claim ``client_id`` (RFC 9068 section 2.2) or ``azp``; empty when absent.
        scopes: claim ``scope`` (RFC 8693 section 4.2) or ``scp``.
        roles: role names.
        buckets: bucket names, without ``s3://``.
        permissions: actions such as ``s3:GetObject``.
        actor: claim ``act`` (RFC 8693 section 4.1): who acts for the subject; None where the
            subject does.
        claims_json: the signed payload, a JSON object; ``claims`` has it parsed.
    """

    issuer: str
    subject: str
    expire_time: float
    client_id: str = ""
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    claims_json: bytes = field(default=b"{}", repr=False)
    actor: Actor | None = None
    _claims: Mapping[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def claims(self) -> Mapping[str, Any]:
        """All claims of the token, by name, as they were signed. Parsed at the first use.

        Requests share the mapping: neither it nor what is in it can be changed. A copy can.

        Raises:
            ValueError: ``claims_json`` is no JSON object, which no token of authsvc's causes.
        """
        if self._claims is not None:
            return self._claims
        claims = parsed(self.claims_json)
        if not isinstance(claims, dict):
            raise ValueError("claims_json is not a JSON object")
        object.__setattr__(self, "_claims", claims)
        return claims

    def has_scope(self, *scopes: str) -> bool:
        """Whether the token has all of ``scopes`` (RFC 6749 section 3.3): each is compared exactly.

        Raises:
            TypeError: one of them is no string.
            ValueError: there are none, or one has a space: it would be two.
        """
        if not scopes:
            raise ValueError("has_scope needs a scope")
        for scope in scopes:
            if not isinstance(scope, str):
                raise TypeError(f"a scope is a string, not {type(scope).__name__}")
            if not scope or " " in scope:
                raise ValueError(f"{scope!r} is no scope; give several as has_scope('a', 'b')")
        return all(scope in self.scopes for scope in scopes)

    def memory_bytes(self) -> int:
        """Bytes that it takes in memory, strings included: an estimate for caches."""
        lists = (self.scopes, self.roles, self.buckets, self.permissions)
        texts = (self.issuer, self.subject, self.client_id)
        return (
            _OBJECT_BYTES
            + getsizeof(self.claims_json)
            + sum(map(getsizeof, texts))
            + (self.actor.memory_bytes() if self.actor is not None else 0)
            + sum(getsizeof(names) + sum(map(getsizeof, names)) for names in lists)
        )


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Credentials for AWS and what speaks its protocols.

    Attributes:
        access_key_id: for the client of AWS, as the next three.
        secret_access_key: the key's secret.
        session_token: of temporary credentials; None for lasting ones.
        region: where what they are for is.
        expire_time: when they end; 0 if none is set.
        renew_time: when the broker issues new ones; it is not sent to callers.
    """

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None
    region: str
    expire_time: float
    renew_time: float = field(default=math.inf, compare=False)

    def memory_bytes(self) -> int:
        """Bytes that they take in memory: an estimate for caches."""
        token = self.session_token.reveal() if self.session_token else ""
        return 3 * _OBJECT_BYTES + getsizeof(token) + getsizeof(self.secret_access_key.reveal())


@dataclass(frozen=True, slots=True)
class BearerCredentials:
    """An OAuth access token for a downstream API (RFC 6749 section 7.1).

    Attributes:
        access_token: the token.
        token_type: how it is sent, such as ``Bearer``.
        expire_time: when it ends.
        renew_time: when the broker issues a new one; it is not sent to callers.
    """

    access_token: Secret
    token_type: str
    expire_time: float
    renew_time: float = field(default=math.inf, compare=False)

    def memory_bytes(self) -> int:
        """Bytes that they take in memory: an estimate for caches."""
        return 3 * _OBJECT_BYTES + getsizeof(self.access_token.reveal())


Credentials = AwsCredentials | BearerCredentials


class SessionState(Enum):
    """Whether a request has an identity. Values are those of the proto."""

    UNAUTHENTICATED = 1
    AUTHENTICATED = 2


class Outcome(Enum):
    """What a resolve did to the session. Values are those of the proto."""

    CREATED = 1
    REUSED = 2
    REAUTHENTICATED = 3


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the caller of one request sees it.

    Attributes:
        id: the session id.
        state: of the request: AUTHENTICATED if it has a valid token.
        revision: 1 when created, one more with each change.
        create_time: when it was created.
        expire_time: when it ends if it is not used again, the absolute limit included.
    """

    id: str
    state: SessionState
    revision: int
    create_time: float
    expire_time: float


_NONE: Mapping[str, Credentials | AuthError] = read_only({})


@dataclass(frozen=True, slots=True)
class Resolution:
    """The response to one request: session, outcome, identity, credentials.

    Attributes:
        session: None for a caller with neither session id nor token.
        outcome: what the call did to the session; None as for ``session``.
        principal: whose request it is; None when unauthenticated.
        credentials: issued for the principal; None where no broker applies, or where the request
            asks for credentials by name.
        consistency_token: set when the call wrote: a request that sends it sees that write, on
            every replica.
        named_credentials: what the request asks for by name, in its order, or why it is not issued;
            cannot be changed. Names for which the principal has none are missing.
    """

    session: Session | None = None
    outcome: Outcome | None = None
    principal: Principal | None = None
    credentials: Credentials | None = None
    consistency_token: str = ""
    named_credentials: Mapping[str, Credentials | AuthError] = field(
        default_factory=lambda: _NONE, hash=False
    )

    def credentials_of(self, name: str) -> Credentials | None:
        """The credentials of one name that the request asks for.

        Args:
            name: as in the request; empty for those of the resource without a name.

        Returns:
            None where the principal has none.

        Raises:
            AuthError: they are not issued; its ``reason`` says why.
        """
        found = self.named_credentials.get(name)
        if isinstance(found, AuthError):
            raise found.raisable(principal=self.principal)
        return found

    def issued(self) -> Iterator[Credentials]:
        """All its credentials, with and without a name."""
        if self.credentials is not None:
            yield self.credentials
        for found in self.named_credentials.values():
            if not isinstance(found, AuthError):
                yield found

    def credentials_memory_bytes(self) -> int:
        """Bytes that all its credentials take in memory: an estimate for caches."""
        names = sum(map(getsizeof, self.named_credentials))
        return names + sum(it.memory_bytes() for it in self.issued())


class NotOpenError(RuntimeError):
    """A resolver was called while not open: use it within ``async with``."""


class Resolver(Protocol):
    """Resolves requests: authsvc's own resolver, its client, or a test's.

    Every method raises ``AuthError`` for every expected failure. A resolver that has to be opened
    raises ``NotOpenError`` before that, and after it is closed.
    """

    async def resolve(
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        """Decide on one request, by its session and its own token.

        Args:
            session_id: the session that the request names (``Mcp-Session-Id``); empty to ask by the
                token alone.
            token: the bare access token of this very request; empty without one.
            resource: canonical URI of the server that was asked (RFC 8707).
            create: whether an unknown session is created under this id.

        Returns:
            Who makes the request, its session, and the credentials to work with. The principal is
            None for a request without a token.

        Raises:
            AuthError: the token or the session is rejected, or there is no answer; its ``reason``
                says why, and ``HttpError.of`` how to answer.
            NotOpenError: it is not open.
        """
        ...

    async def create(self, token: str, *, resource: str) -> Resolution:
        """Create a session under a new id.

        Args:
            token: the bare access token of the request; empty without one.
            resource: canonical URI of the server that was asked.

        Returns:
            As of ``resolve``; ``session.id`` is the new id.

        Raises:
            AuthError: as of ``resolve``.
            NotOpenError: it is not open.
        """
        ...

    async def revoke(self, session_id: str) -> None:
        """End a session, for every resource. One that is unknown or has ended is no error.

        Args:
            session_id: the session.

        Raises:
            AuthError: it may not be ended by this caller, or there is no answer.
            NotOpenError: it is not open.
        """
        ...


class CountingResolver(Resolver, Protocol):
    """A ``Resolver`` with limits by subject, by client or for everyone, and credentials by name.

    A caller of a ``Resolver`` gives it these arguments only where it takes them, and only where
    they are not the defaults.
    """

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
        """See ``Resolver.resolve``.

        Args:
            session_id: as there.
            token: as there.
            resource: as there.
            create: as there.
            rate_limits: what the request counts towards, beside the resolver's own limits: for each
                call of its message, each of the call's limits once.
            calls: how many calls its message has, for the resolver's own limits.
            recheck: whether a request that has been counted is checked again, as while its response
                streams: it counts as nothing.
            credentials: which credentials the answer has, each name once, in
                ``Resolution.named_credentials``; with none of them no broker is called. None for
                those of the resource without a name, in ``Resolution.credentials``.

        Raises:
            AuthError: as there; RATE_LIMITED beyond a limit.
            TypeError: ``credentials`` are of another type.
            ValueError: there are too many of them, or two of one name.
        """
        ...

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """See ``Resolver.create``; ``rate_limits`` and ``credentials`` as of ``resolve``."""
        ...
