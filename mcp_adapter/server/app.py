"""The reference server: the MCP endpoint behind its gate, metadata and health."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.lowlevel import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.audit.calls import CallAudit
from authsvc.common.rarely import Rarely
from authsvc.domain.errors import AuthError, Reason, of_setting
from authsvc.domain.resolution import Resolver
from authsvc.http_auth.refusal_log import SHOWN_CHARACTERS, WARNING_INTERVAL_SECONDS
from authsvc.http_auth.requirements import RequirementOf
from authsvc.net.peers import Peers
from mcp_adapter.gate.metadata import metadata_routes
from mcp_adapter.gate.middleware import SessionGate
from mcp_adapter.gate.observing import CallObserver
from mcp_adapter.gate.origins import with_origin_checks
from mcp_adapter.server.client_addresses import ClientAddresses
from mcp_adapter.server.config import Settings
from mcp_adapter.transport.streamable import StreamableHttp

log = logging.getLogger(__name__)


def build_app(
    settings: Settings,
    server: Server[Any],
    *,
    resolver: Resolver,
    ready: Callable[[], Awaitable[None]],
    requirement: RequirementOf,
    scopes: Sequence[str],
    observed: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    observer: CallObserver | None = None,
    audit: CallAudit | None = None,
    audited_arguments: Mapping[str, Sequence[str]] | None = None,
) -> Starlette:
    """The ASGI app. Its lifespan runs ``server``; the resolver is its owner's to open and close.

    Args:
        settings: of the adapter.
        server: the MCP server.
        resolver: decides who calls.
        ready: raises the ``AuthError`` that keeps requests from being served.
        requirement: what a request needs, by method and params. It has no default: a default does
            not know the server's tools, so any token could call them all.
        scopes: all that tokens may be asked to hold here.
        observed: wraps the MCP endpoint, to count its requests.
        observer: of the gate, as for all that follows.
        audit: gets an event of each call; None for no audit.
        audited_arguments: by tool, the arguments that are in those events.
    """
    endpoint = StreamableHttp(server, max_body_bytes=settings.max_body_bytes)
    gate = SessionGate(
        endpoint,
        resolver=resolver,
        resource=settings.resource,
        authorization_servers=settings.authorization_servers,
        requirement=requirement,
        max_body_bytes=settings.max_body_bytes,
        max_anonymous_body_bytes=settings.max_anonymous_body_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        observer=observer,
        filter_lists=settings.filter_lists,
        audit=audit,
        audited_arguments=audited_arguments,
        credentials="on_demand",
    )
    mcp = observed(_from_clients(gate, settings))
    metadata = metadata_routes(
        settings.resource,
        name=server.name,
        authorization_servers=settings.authorization_servers,
        scopes=scopes,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with endpoint.run():
            yield

    app = Starlette(
        routes=[*_endpoint_routes(settings.endpoint, mcp), *metadata, *_health_routes(ready)],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.router.default = NotServed(settings.endpoint, app.router.default)
    return app


def _from_clients(gate: ASGIApp, settings: Settings) -> ASGIApp:
    """The gate, for requests with a permitted host and origin; their address is the client's."""
    if settings.client_address_header:
        proxies = Peers(settings.trusted_proxies)
        gate = ClientAddresses(gate, header=settings.client_address_header, proxies=proxies)
    return with_origin_checks(
        gate,
        resource=settings.resource,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        trusted_proxies=settings.trusted_proxies,
    )


class NotServed:
    """Answers what no route serves. Calls of MCP are logged: most often, a proxy in front takes a
    part of the path away.

    Args:
        endpoint: the path of the MCP endpoint.
        answer: answers.
        clock: seconds, of any origin.
    """

    def __init__(
        self, endpoint: str, answer: ASGIApp, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoint = endpoint
        self._answer = answer
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope.get("method") == "POST" and self._warnings.may_pass("path"):
            log.warning(
                "refused: 404: POST %r: MCP is served at %r, the path of resource%s",
                scope["path"][:SHOWN_CHARACTERS],
                self._endpoint,
                of_setting("resource"),
                extra={"setting": "resource"},
            )
        await self._answer(scope, receive, send)


def _endpoint_routes(path: str, mcp: ASGIApp) -> list[Route]:
    """The endpoint's, with a slash at the end and without: no client is redirected."""
    bare = path.removesuffix("/")
    return [Route(each, mcp) for each in dict.fromkeys((bare or "/", f"{bare}/"))]


def _health_routes(ready: Callable[[], Awaitable[None]]) -> list[Route]:
    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        try:
            await ready()
        except AuthError as error:
            body = {"status": "unavailable", "reason": _cause(error.reason)}
            return JSONResponse(body, status_code=503)
        return JSONResponse({"status": "ready"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _cause(reason: Reason) -> str:
    if reason is Reason.SERVICE_UNAVAILABLE:
        return "authsvc is unreachable"
    return f"authsvc does not serve this server: {reason.name}"
