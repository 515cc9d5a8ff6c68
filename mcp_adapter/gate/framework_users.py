"""The caller, where frameworks look for it: Starlette, the official MCP SDK and FastMCP.

None of them gets the client's token. The SDK and FastMCP bind what they keep for a caller, such as
``requestState``, to the client, issuer and subject that they find here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.domain.resolution import Principal, Resolution
from authsvc.http_auth import eras
from authsvc.http_auth.forwarding import without_ours
from authsvc.http_auth.headers import Headers

if TYPE_CHECKING:
    from mcp.server.auth.provider import AccessToken


class User(BaseUser):
    """An authenticated caller, as Starlette's ``request.user``.

    Args:
        principal: who it is.
        resource: canonical URI of the server that was asked.
    """

    def __init__(self, principal: Principal, resource: str) -> None:
        self.principal = principal
        self.resource = resource
        self.scopes = list(principal.scopes)

    @property
    def is_authenticated(self) -> bool:
        """True: there was a valid token."""
        return True

    @property
    def display_name(self) -> str:
        """The subject. Two issuers can have one of the same name: compare ``identity``."""
        return self.principal.subject

    @property
    def identity(self) -> str:
        """Issuer and subject, as a JSON array."""
        return json.dumps([self.principal.issuer, self.principal.subject])


class Identified:
    """Tells an app behind the gate the user of each request.

    ``scope["user"]`` and ``scope["auth"]`` are Starlette's. Where the SDK is loaded, they are its
    own, and its context variable has the same for as long as the request is served.

    Args:
        app: finds the gate's resolution in its scope.
        resource: canonical URI of the server.
        stateful: whether it keeps sessions of its own.
    """

    def __init__(self, app: ASGIApp, *, resource: str, stateful: bool) -> None:
        self._app = app
        self._resource = resource
        self._stateful = stateful

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        resolution: Resolution = scope["state"]["resolution"]
        principal, sdk = resolution.principal, _sdk()
        scope["auth"] = AuthCredentials(principal.scopes if principal else ())
        user = sdk_user = None
        if principal is not None:
            sdk_user = sdk.user(principal, self._resource) if sdk else None
            # The SDK binds a session to the client that opened it, so a session that began without
            # a token could never get one. The gate checks whose session it is.
            would_be_bound = self._stateful and _is_in_session_era(scope)
            user = None if would_be_bound else sdk_user
            user = user or User(principal, self._resource)
        scope["user"] = user or UnauthenticatedUser()
        if sdk is None:
            await self._app(scope, receive, send)
            return
        with sdk.current(sdk_user):
            await self._app(scope, receive, send)


class Unidentified:
    """Gives an app no user, for paths that are open; nor one that a client claims to be by a header
    of authsvc's.

    An HTTP server may have a request begin in the context of an earlier one on its connection,
    which can be another client's (behind a proxy).

    Args:
        app: is served without a user.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        headers = without_ours(scope["headers"])
        if headers is not scope["headers"]:
            scope = {**scope, "headers": headers}
        if (sdk := _sdk()) is None:
            await self._app(scope, receive, send)
            return
        with sdk.current(None):
            await self._app(scope, receive, send)


def _is_in_session_era(scope: Scope) -> bool:
    return eras.has_sessions(eras.protocol_version(Headers(scope["headers"])))


def current_sdk_user(
    principal: Principal | None, resource: str
) -> AbstractContextManager[None] | None:
    """The SDK's context variable has this user within the block; None where it is not loaded."""
    if (sdk := _sdk()) is None:
        return None
    return sdk.current(sdk.user(principal, resource) if principal else None)


class _Sdk:
    """What the official SDK looks for; FastMCP looks for the same."""

    def __init__(
        self,
        user: Callable[[Principal, str], Any],
        current: Callable[[Any], AbstractContextManager[None]],
    ) -> None:
        self.user = user
        self.current = current


def _sdk() -> _Sdk | None:
    """None where the SDK is not loaded, so that no app looks for its types."""
    return _loaded_sdk() if "mcp.server.auth.middleware.bearer_auth" in sys.modules else None


@cache
def _loaded_sdk() -> _Sdk:
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

    class SdkUser(User, AuthenticatedUser):
        """The SDK asks for its own class by ``isinstance``."""

        def __init__(self, principal: Principal, resource: str) -> None:
            User.__init__(self, principal, resource)
            self.username = principal.subject

        @cached_property
        def access_token(self) -> AccessToken:  # type: ignore[override] # made when it is asked for
            return _access_token(self.principal, self.resource)

    class Current(AbstractContextManager[None]):
        """The SDK's context variable has a user, for as long as the block lasts.

        Without a caller it has None, and not the user of a surrounding request. The SDK serves each
        message of a session in the context of the request that has brought it.
        """

        # A class, as a generator costs each request three times as much.
        def __init__(self, user: SdkUser | None) -> None:
            self._user = user

        def __enter__(self) -> None:
            self._before = auth_context_var.set(self._user)

        def __exit__(self, *_: object) -> None:
            auth_context_var.reset(self._before)

    return _Sdk(SdkUser, Current)


def _access_token(principal: Principal, resource: str) -> AccessToken:
    from mcp.server.auth.provider import AccessToken

    return AccessToken(
        token=_placeholder(principal, resource),
        client_id=principal.client_id,
        scopes=list(principal.scopes),
        expires_at=int(principal.expire_time),
        resource=resource,
        subject=principal.subject,
        claims=_claims(principal),
    )


def _claims(principal: Principal) -> dict[str, object]:
    """The token's claims, with what authsvc made of some of them."""
    # An introspected token's may lack issuer and subject, and the SDK takes the issuer from here.
    claims = {**principal.claims, "iss": principal.issuer, "sub": principal.subject}
    if principal.actor is not None:
        claims["act"] = principal.actor.claim()
    return claims


def _placeholder(principal: Principal, resource: str) -> str:
    """A placeholder for the token: it authorises nothing, and differs between callers.

    FastMCP uses it as a cache key. It is derived from the token's claims, not from the token.
    """
    claimed = (
        (resource, principal.issuer, principal.subject, principal.client_id),
        (principal.scopes, principal.roles, principal.buckets, principal.permissions),
        (principal.expire_time, principal.claims_json, principal.actor),
    )
    return "not-a-token:" + hashlib.sha256(repr(claimed).encode()).hexdigest()
