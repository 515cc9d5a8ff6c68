"""Checks every request before the app sees it, and sets security headers on every response."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.net.hosts import AllowedHosts, AllowedOrigins, read_authority, read_origin

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)

HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it, browsers send "Origin: null" with forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Guard:
    """Rejects requests for another host (DNS rebinding) and requests from another origin (CSRF).

    Pure ASGI.

    Args:
        app: the app behind it.
        origins: the console's origins.
        secure: whether browsers use TLS.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str], secure: bool) -> None:
        self._app = app
        self._scheme = "https" if secure else "http"
        self._origins = AllowedOrigins(origins)
        hosts = (origin.partition("://")[2] for origin in origins)
        self._hosts = AllowedHosts(hosts, scheme=self._scheme)
        self._headers = dict(HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        rejection = self._rejection(scope)
        await (rejection or self._app)(scope, receive, send_guarded)

    def _rejection(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allow(hosts[0]):
            return PlainTextResponse("This console does not serve that host.\n", 421)
        if scope["method"] in _SAFE_METHODS:
            return None
        origins = headers.getlist("origin")
        is_own = (
            len(origins) == 1
            and self._origins.allow(origins[0])
            and read_origin(origins[0]) == (self._scheme, read_authority(hosts[0], self._scheme))
        )
        return (
            None
            if is_own
            else PlainTextResponse("The request was sent from another origin.\n", 403)
        )
