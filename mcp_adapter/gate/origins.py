"""Host and Origin checks against DNS rebinding, and CORS: which pages may call the endpoint.

A page of another origin could otherwise reach a server on the user's own machine (MCP "Security
Warning").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.common import arguments, formats
from mcp_adapter.gate.apps import check_app
from mcp_adapter.gate.whitespace import trimmed

LOOPBACK_HOSTS = ("localhost:*", "127.0.0.1:*", "[::1]:*")
"""A browser never sends these as Host for a page of another site."""

LOOPBACK_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*")
"""Pages that this machine serves, such as a local inspector's."""

_EXPOSED_HEADERS = ("Mcp-Session-Id", "WWW-Authenticate", "MCP-Protocol-Version", "Retry-After")


def with_origin_checks(
    app: ASGIApp, *, resource: str, allowed_hosts: Iterable[str], allowed_origins: Iterable[str]
) -> ASGIApp:
    """``app`` behind Host and Origin checks. Pages of allowed origins get CORS headers.

    The resource's own host and origin are always allowed, and so are loopback hosts.

    Args:
        app: what to guard.
        resource: canonical URI of the server.
        allowed_hosts: further Host values, ``name``, ``name:port`` or ``name:*``.
        allowed_origins: further Origin values, ``scheme://name`` with an optional port or ``:*``.

    Raises:
        TypeError: ``app`` is no ASGI app, or a string stands where several are meant.
        ValueError: ``resource`` is not canonical, or one of the others is not of these.
    """
    check_app(app)
    parts = urlsplit(arguments.resource("resource", resource))
    further_hosts = arguments.each("allowed_hosts", allowed_hosts, formats.check_host)
    further_origins = arguments.each("allowed_origins", allowed_origins, formats.check_origin)
    hosts = _pattern((parts.netloc, *LOOPBACK_HOSTS, *further_hosts))
    origins = _pattern((f"{parts.scheme}://{parts.netloc}", *further_origins))
    with_cors = CORSMiddleware(
        app,
        allow_origin_regex=origins.pattern,
        allow_methods=("POST", "GET", "DELETE", "OPTIONS"),
        # What is asked for is echoed. A list cannot name Mcp-Param-*, and an origin that is trusted
        # with the endpoint may send it any header; no cookie or other ambient authority counts.
        allow_headers=("*",),
        expose_headers=_EXPOSED_HEADERS,
    )
    return OriginGuard(with_cors, hosts=hosts, origins=origins)


class OriginGuard:
    """Refuses a Host with 421 and an Origin with 403, preflights among them.

    Args:
        app: what to guard.
        hosts: matches the Host values that are served.
        origins: matches the Origin values that are served. A request without one is served: it
            does not come from a page.

    Raises:
        TypeError: ``app`` is no ASGI app, or one of the others is no pattern of text.
    """

    def __init__(self, app: ASGIApp, *, hosts: re.Pattern[str], origins: re.Pattern[str]) -> None:
        check_app(app)
        for name, pattern in (("hosts", hosts), ("origins", origins)):
            arguments.instance_of(name, pattern, re.Pattern)
            arguments.instance_of(f"{name}.pattern", pattern.pattern, str)
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope = trimmed(scope)
        refusal = self._refusal(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._hosts.fullmatch(hosts[0].lower()):
            return PlainTextResponse(
                "This Host is not served here.\n", HTTPStatus.MISDIRECTED_REQUEST
            )
        if len(origins) > 1 or not all(map(self._origins.fullmatch, origins)):
            return PlainTextResponse("This Origin is not allowed.\n", HTTPStatus.FORBIDDEN)
        return None


def _pattern(allowed: Iterable[str]) -> re.Pattern[str]:
    """Matches the allowed values; ``:*`` at the end of one stands for any port, or none."""
    return re.compile(
        "|".join(
            re.escape(value.removesuffix(":*")) + ("(:[0-9]+)?" if value.endswith(":*") else "")
            for value in allowed
        )
    )
