"""Requests of a caller, for tools that are called without HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.requests import Request

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Actor, Credentials, Principal, Resolution
from mcp_adapter.gate import framework_users, identity
from mcp_adapter.gate.request_credentials import STATE_KEY, RequestCredentials
from mcp_adapter.testing.named_credentials import Named, checked, issued
from mcp_adapter.testing.principals import actor_of, check_credentials, lists_of, principal_of

_RESOURCE = "https://mcp.example/mcp"


class CallerRequest(Request):
    """A request as an app behind the gate gets it.

    Within ``with`` it is also the request of calls that have none: those of the in-memory clients
    of the official SDK and of FastMCP. Open the client inside the block, since its server runs in
    a task of its own, which keeps the caller that it began with::

        with as_caller("ada", scopes=["notes.read"]):
            async with Client(mcp) as client:
                await client.call_tool("whoami")
    """

    def __enter__(self) -> Self:
        """Make it the current request."""
        self._left = ExitStack()
        for current in self._currents():
            self._left.enter_context(current)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make what was current before the current one again."""
        self._left.close()

    def _currents(self) -> Iterable[AbstractContextManager[Any]]:
        """Where tools look for the request, and for its user."""
        yield identity.in_memory(self)
        principal = self.state.resolution.principal
        if (user := framework_users.current_sdk_user(principal, _RESOURCE)) is not None:
            yield user
        if "fastmcp.server.http" in sys.modules:
            yield sys.modules["fastmcp.server.http"].set_http_request(self)


def as_caller(
    who: Principal | str | None,
    *,
    scopes: Iterable[str] = (),
    roles: Iterable[str] = (),
    buckets: Iterable[str] = (),
    permissions: Iterable[str] = (),
    credentials: Credentials | None = None,
    named: Mapping[str, Named] | None = None,
    actor: Actor | str | None = None,
) -> CallerRequest:
    """A request as an app behind the gate gets it: ``caller`` and ``current_caller`` read it.

    Call a tool with it, or use it as a context manager around an in-memory client; see
    ``CallerRequest``.

    Args:
        who: the caller, or the subject of one; None for a request without a token.
        scopes: of the token, where ``who`` is a subject, as for the next three.
        roles: role names.
        buckets: bucket names, without ``s3://``: credentials are asked for these alone.
        permissions: actions such as ``s3:GetObject``.
        credentials: issued for the caller without a name.
        named: what ``caller(request).credentials(name)`` has by name: credentials; an
            ``AuthError``, which it raises; None for none; or a function of the
            ``CredentialRequest`` that returns one of these, such as another token where the first
            is ``rejected``.
        actor: who acts for the caller (RFC 8693 section 4.1), or the subject of that actor, where
            ``who`` is a subject; None where the caller does.

    Raises:
        TypeError: an argument is of another type, such as one string where several are meant.
        ValueError: there are ``scopes``, another list or an ``actor`` beside a ``Principal``, which
            has its own, or without a caller; or no token could hold one of them; or a name is none.
    """
    check_credentials(credentials)
    by_name = {**checked(named), "": credentials}
    lists = lists_of(scopes, roles, buckets, permissions)
    principal = None if who is None else principal_of(who, lists, actor)
    for name, given in lists.items():
        if principal is None and given:
            raise ValueError(f"{name}: a request without a token has none")
    if principal is None and actor_of(actor) is not None:
        raise ValueError("actor: a request without a token has none")
    return CallerRequest(
        {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "query_string": b"",
            "headers": [],
            "state": {
                "resolution": Resolution(principal=principal, credentials=credentials),
                STATE_KEY: None if principal is None else _issuing(principal, by_name),
            },
            "user": framework_users.User(principal, _RESOURCE)
            if principal
            else UnauthenticatedUser(),
            "auth": AuthCredentials(principal.scopes if principal else ()),
        }
    )


def _issuing(principal: Principal, named: Mapping[str, Named]) -> RequestCredentials:
    """The credentials of a made request, which does not end."""

    async def issue(wanted: CredentialRequest) -> Credentials | None:
        value = issued(named, principal, wanted)
        if isinstance(value, AuthError):
            raise value.raisable()
        return value

    return RequestCredentials(issue)
