"""``Caller``: the principal of a request, and its credentials when a tool asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, overload

from authsvc.common import arguments
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.resolution import (
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Principal,
)
from mcp_adapter.gate.request_credentials import RequestCredentials

KindT = TypeVar("KindT", AwsCredentials, BearerCredentials)


class NoCredentialsError(LookupError):
    """The caller has no credentials of that name: no rule of authsvc's fits its token, say."""


class Caller(Principal):
    """The principal that made a request, for tools. Equal to a ``Principal`` with the same fields.

    ``credentials`` works until the response to the request is complete.
    """

    __slots__ = ("__credentials", "__principal")

    __hash__ = Principal.__hash__

    @classmethod
    def of(cls, principal: Principal, credentials: RequestCredentials | None) -> Caller:
        """The caller of a request.

        Args:
            principal: who it is.
            credentials: issues its credentials; None where nothing does.
        """
        made = object.__new__(cls)
        for name in _FIELDS:
            object.__setattr__(made, name, getattr(principal, name))
        # Requests share the principal, and with it the claims once they are parsed.
        object.__setattr__(made, "_claims", None)
        object.__setattr__(made, "_Caller__principal", principal)
        object.__setattr__(made, "_Caller__credentials", credentials)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Principal):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    @property
    def claims(self) -> Mapping[str, Any]:
        """See ``Principal.claims``."""
        principal: Principal | None = getattr(self, "_Caller__principal", None)
        # A copy, such as of dataclasses.replace, parses its own.
        return Principal.claims.fget(self) if principal is None else principal.claims  # type: ignore[attr-defined] # mypy takes a property for its value

    @overload
    async def credentials(
        self,
        name: str = "",
        kind: None = None,
        *,
        buckets: Sequence[str] = (),
        rejected: BearerCredentials | None = None,
    ) -> Credentials: ...
    @overload
    async def credentials(
        self,
        name: str,
        kind: type[KindT],
        *,
        buckets: Sequence[str] = (),
        rejected: BearerCredentials | None = None,
    ) -> KindT: ...
    @overload
    async def credentials(
        self,
        name: str = "",
        *,
        kind: type[KindT],
        buckets: Sequence[str] = (),
        rejected: BearerCredentials | None = None,
    ) -> KindT: ...
    async def credentials(
        self,
        name: str = "",
        kind: type[Any] | None = None,
        *,
        buckets: Sequence[str] = (),
        rejected: BearerCredentials | None = None,
    ) -> Credentials:
        """Credentials that authsvc issues for this caller, by name.

        Each call asks authsvc, which verifies the request's session and token again and has the
        credentials cached, as a rule. It counts towards no limit.

        Args:
            name: as authsvc's configuration names them; empty for those of the resource without a
                name.
            kind: which kind they have to be: ``AwsCredentials`` or ``BearerCredentials``; None for
                either.
            buckets: the buckets that they have to work for, each one of the token's; none for all
                of the token's.
            rejected: those that the API has just rejected (401): others are issued in their place,
                unless they are so new that it would not help.

        Raises:
            NoCredentialsError: the caller has none of this name; or this is no caller of a request
                that came through a gate.
            AuthError: they are refused or unavailable, the token or the session has ended, or the
                response to the request is complete.
            TypeError: they are of another kind, an argument is of another type, or the gate's
                resolver is one of your own without the argument ``credentials``.
            ValueError: an argument is out of range.
        """
        wanted = CredentialRequest(name, arguments.texts("buckets", buckets), _digest(rejected))
        if kind not in (None, AwsCredentials, BearerCredentials):
            raise TypeError(f"kind is AwsCredentials or BearerCredentials, not {kind!r}")
        source: RequestCredentials | None = getattr(self, "_Caller__credentials", None)
        issued = None if source is None else await source.issue(wanted)
        if issued is None:
            raise NoCredentialsError(f"the caller has no {_named(name)}")
        if kind is not None and not isinstance(issued, kind):
            raise TypeError(f"the {_named(name)} are {type(issued).__name__}, not {kind.__name__}")
        return issued


_FIELDS = tuple(it.name for it in fields(Principal) if it.compare)


def _digest(rejected: BearerCredentials | None) -> bytes:
    if rejected is None:
        return b""
    arguments.instance_of("rejected", rejected, BearerCredentials)
    return hashlib.sha256(rejected.access_token.reveal().encode()).digest()


def _named(name: str) -> str:
    return f"credentials {name!r}" if name else "credentials without a name"
