"""Host and Origin checks against DNS rebinding, and CORS: which pages may call the endpoint.

A page of another origin could otherwise reach a server on the user's own machine (MCP "Security
Warning").
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.common import arguments, formats
from authsvc.common.rarely import Rarely
from authsvc.net.hosts import AllowedHosts, AllowedOrigins
from authsvc.net.peers import Peers
from authsvc.net.urls import read
from mcp_adapter.gate.apps import check_app
from mcp_adapter.gate.forwarded import RequestedHost
from mcp_adapter.gate.whitespace import trimmed

log = logging.getLogger(__name__)

LOOPBACK_HOSTS = ("localhost:*", "127.0.0.1:*", "[::1]:*")
"""A browser never sends these as Host for a page of another site."""

LOOPBACK_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*")
"""Pages that this machine serves, such as a local inspector's."""

WARNING_INTERVAL_SECONDS = 1.0
"""From one warning of a kind to the next. Those in between are not logged: anybody causes them."""

SHOWN_CHARACTERS = 200
"""How much of a header's value is logged."""

_EXPOSED_HEADERS = ("Mcp-Session-Id", "WWW-Authenticate", "MCP-Protocol-Version", "Retry-After")


def with_origin_checks(
    app: ASGIApp,
    *,
    resource: str,
    allowed_hosts: Iterable[str] = (),
    allowed_origins: Iterable[str] = (),
    trusted_proxies: Iterable[str] = (),
) -> ASGIApp:
    """``app`` behind Host and Origin checks. Pages of allowed origins get CORS headers.

    The resource's own host and origin are always allowed, and so are loopback hosts. A default port
    is one that is not written.

    Args:
        app: what to guard.
        resource: canonical URI of the server.
        allowed_hosts: further Host values: ``name``, ``name:port``, or ``name:*`` for any port;
            ``*.name`` stands for all names below that one. ``*`` allows any: do so only behind a
            proxy that checks Host itself, or pages of any site reach the server by DNS rebinding.
        allowed_origins: further Origin values: ``scheme://name`` of any scheme, with an optional
            port or ``:*``; ``null`` for pages without an origin, which any site can make.
        trusted_proxies: addresses and networks of proxies that set ``Forwarded`` or
            ``X-Forwarded-Host`` themselves, in place of what a client sent; ``unix`` for a Unix
            socket. That host is checked in place of Host. The server must not replace the peer's
            address, as uvicorn does by default: run it with ``proxy_headers=False``.

    Raises:
        TypeError: ``app`` is no ASGI app, or a string stands where several are meant.
        ValueError: ``resource`` is not canonical, or one of the others is not of these.
    """
    check_app(app)
    url = read(arguments.resource("resource", resource))
    own = url.host if url.port is None else f"{url.host}:{url.port}"
    further_hosts = arguments.each("allowed_hosts", allowed_hosts, formats.check_host)
    further_origins = arguments.each("allowed_origins", allowed_origins, formats.check_origin)
    proxies = arguments.each("trusted_proxies", trusted_proxies, formats.check_peer)
    hosts = AllowedHosts((own, *LOOPBACK_HOSTS, *further_hosts), scheme=url.scheme)
    origins = AllowedOrigins((f"{url.scheme}://{own}", *further_origins))
    return OriginGuard(_Cors(app, origins), hosts=hosts, origins=origins, proxies=Peers(proxies))


class OriginGuard:
    """Refuses a Host with 421 and an Origin with 403, preflights among them.

    Args:
        app: what to guard.
        hosts: that are served.
        origins: that are served. A request without one is served: it does not come from a page.
        proxies: whose word on the host counts.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: AllowedHosts,
        origins: AllowedOrigins,
        proxies: Peers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins
        self._proxies = proxies
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope = trimmed(scope)
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        requested = RequestedHost.of(
            headers, peer_of(scope), self._proxies, scheme=self._hosts.scheme
        )
        if requested.fault or not self._hosts.allow(requested.host):
            self._warn("Host", requested.host, requested.remedy, requested.setting)
            return PlainTextResponse(
                "This Host is not served here.\n", HTTPStatus.MISDIRECTED_REQUEST
            )
        origins = headers.getlist("origin")
        if len(origins) > 1 or not all(map(self._origins.allow, origins)):
            remedy = "if its page may call, add it to allowed_origins"
            self._warn("Origin", ", ".join(origins), remedy, "allowed_origins")
            return PlainTextResponse("This Origin is not allowed.\n", HTTPStatus.FORBIDDEN)
        return None

    def _warn(self, header: str, value: str, remedy: str, setting: str) -> None:
        if self._warnings.may_pass(header):
            shown = value[:SHOWN_CHARACTERS]
            fields = {"header": header, "value": shown, "setting": setting}
            log.warning("refused: %s %r: %s", header, shown, remedy, extra=fields)


class _Cors(CORSMiddleware):
    """CORS for the origins that the guard lets through."""

    def __init__(self, app: ASGIApp, origins: AllowedOrigins) -> None:
        super().__init__(
            app,
            allow_methods=("POST", "GET", "DELETE", "OPTIONS"),
            # What is asked for is echoed. A list cannot name Mcp-Param-*, and an origin that is
            # trusted with the endpoint may send it any header; no cookie or other ambient authority
            # counts.
            allow_headers=("*",),
            expose_headers=_EXPOSED_HEADERS,
        )
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        """See ``CORSMiddleware``."""
        return self._origins.allow(origin)


def peer_of(scope: Scope) -> str:
    """The address of the peer of a connection; empty where it has none."""
    client = scope.get("client")
    return client[0] if client else ""
