"""The apps, one for each side: the same tool, with a different way to identify the caller."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token as fastmcp_access_token
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.client import AuthClient
from bench.peers.idp import ALGORITHM, ISSUER, RESOURCE
from mcp_adapter import SessionGate, caller
from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from mcp_adapter.transport.streamable import StreamableHttp

CLAIMS_HEADER = "x-claims"
"""Where Envoy puts the claims that it has verified: base64url of their JSON."""

ASSERTION_HEADER = "x-authsvc-assertion"
"""Where Envoy puts what authsvc says of the caller."""

WhoAsks = Callable[[Request], str]
"""Subject and role, with a colon between."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where an app finds what it goes by.

    Attributes:
        pem: the issuer's public key.
        introspection: URL of the introspection endpoint.
        authsvc: ``host:port``.
    """

    pem: str = ""
    introspection: str = ""
    authsvc: str = ""


def shown(claims: dict[str, object]) -> str:
    """Who the claims are about."""
    return f"{claims['sub']}:{claims['role']}"


def _server(who_asks: WhoAsks, *, auth: AuthSettings | None = None, **options: object) -> MCPServer:
    server = MCPServer("bench", auth=auth, log_level="WARNING", **options)  # type: ignore[arg-type] # the verifier alone

    @server.tool()
    async def whoami(ctx: Context) -> str:
        """Return the caller."""
        request = ctx.request_context.request
        if not isinstance(request, Request):
            raise LookupError("there is no HTTP request")
        return who_asks(request)

    return server


def nobody(places: Places) -> ASGIApp:
    """The SDK's own sessions, and no authorisation: the floor."""
    return _server(lambda request: "nobody:").streamable_http_app(json_response=True)


def as_it_comes(places: Places) -> ASGIApp:
    """The same as the SDK is when nothing is set: each answer is an event stream."""
    return _server(lambda request: "nobody:").streamable_http_app()


def stateless(places: Places) -> ASGIApp:
    """The same without sessions."""
    server = _server(lambda request: "nobody:")
    return server.streamable_http_app(json_response=True, stateless_http=True)


class PyJwt:
    """Verifies the token of each request."""

    def __init__(self, app: ASGIApp, pem: str) -> None:
        self._app = app
        self._pem = pem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            presented = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            try:
                claims = jwt.decode(
                    presented, self._pem, [ALGORITHM], audience=RESOURCE, issuer=ISSUER
                )
            except jwt.InvalidTokenError:
                await Response(status_code=401)(scope, receive, send)
                return
            scope.setdefault("state", {})["claims"] = claims
        await self._app(scope, receive, send)


def pyjwt(places: Places) -> ASGIApp:
    """PyJWT in a middleware, around the SDK's own sessions."""
    server = _server(lambda request: shown(request.state.claims))
    return PyJwt(server.streamable_http_app(json_response=True), places.pem)


def fastmcp(places: Places) -> ASGIApp:
    """FastMCP with its JWTVerifier."""
    verifier = JWTVerifier(
        public_key=places.pem, issuer=ISSUER, audience=RESOURCE, algorithm=ALGORITHM
    )
    server: FastMCP[None] = FastMCP("bench", auth=verifier)

    @server.tool
    async def whoami() -> str:
        """Return the caller."""
        token = fastmcp_access_token()
        return shown(token.claims) if token else ":"

    return server.http_app(json_response=True)


class Introspection(TokenVerifier):
    """Asks the issuer what each token is (RFC 7662), over connections that are kept."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx2.AsyncClient(trust_env=False)

    async def verify_token(self, token: str) -> AccessToken | None:
        """The issuer's answer about it; None when it is not active or not for this server."""
        answer = await self._client.post(self._url, data={"token": token})
        claims = answer.raise_for_status().json()
        if not claims["active"] or claims["aud"] != RESOURCE:
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=claims["aud"],
            subject=claims["sub"],
            claims=claims,
        )


def introspection(places: Places) -> ASGIApp:
    """The SDK with a TokenVerifier that introspects."""

    def who_asks(request: Request) -> str:
        token = get_access_token()
        return shown(token.claims or {}) if token else ":"

    auth = AuthSettings(
        issuer_url=AnyHttpUrl(ISSUER),
        resource_server_url=AnyHttpUrl(RESOURCE),
        validate_token_resource=True,
    )
    verifier = Introspection(places.introspection)
    server = _server(who_asks, auth=auth, token_verifier=verifier)
    return server.streamable_http_app(json_response=True)


def issuer(places: Places) -> ASGIApp:
    """The introspection endpoint, and one by which a token is revoked (RFC 7009)."""
    revoked: set[str] = set()

    async def introspect(request: Request) -> Response:
        token = str((await request.form())["token"])
        try:
            claims = jwt.decode(token, places.pem, [ALGORITHM], audience=RESOURCE, issuer=ISSUER)
        except jwt.InvalidTokenError:
            return JSONResponse({"active": False})
        is_active = claims["jti"] not in revoked
        return JSONResponse({**claims, "active": True} if is_active else {"active": False})

    async def revoke(request: Request) -> Response:
        token = str((await request.form())["token"])
        revoked.add(jwt.decode(token, options={"verify_signature": False})["jti"])
        return Response()

    return Starlette(
        routes=[
            Route("/introspect", introspect, methods=["POST"]),
            Route("/revoke", revoke, methods=["POST"]),
        ]
    )


def behind_envoy(places: Places) -> ASGIApp:
    """The SDK's own sessions; the caller is named in a header."""

    def who_asks(request: Request) -> str:
        return shown(_decoded(request.headers[CLAIMS_HEADER]))

    return _server(who_asks).streamable_http_app(json_response=True)


def checked(places: Places) -> ASGIApp:
    """The same, named by authsvc's assertion. Its signature is not verified: ``behind_envoy`` takes
    Envoy's word, too."""

    def who_asks(request: Request) -> str:
        claims = _decoded(request.headers[ASSERTION_HEADER].split(".")[1])
        return f"{claims['sub']}:{','.join(claims['roles'])}"

    return _server(who_asks).streamable_http_app(json_response=True)


def _decoded(encoded: str) -> dict[str, Any]:
    """Claims, from base64url without padding."""
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    )
    return claims


def _who_came_through(request: Request) -> str:
    principal = caller(request)
    return f"{principal.subject}:{','.join(principal.roles)}"


def gate(places: Places) -> ASGIApp:
    """Ours, in front of the SDK's app without sessions."""
    return _gated(places, streams=True)


def gate_unary(places: Places) -> ASGIApp:
    """The same, with a call of its own for each resolve."""
    return _gated(places, streams=False)


def _gated(places: Places, *, streams: bool) -> ASGIApp:
    app = _server(_who_came_through).streamable_http_app(json_response=True, stateless_http=True)
    resolver = AuthClient(places.authsvc, streams=streams)
    return SessionGate(app, resolver=resolver, resource=RESOURCE)


def adapter(places: Places) -> ASGIApp:
    """Ours, with the transport of the adapter in place of the SDK's."""
    server = _server(_who_came_through)._lowlevel_server  # noqa: SLF001 - the adapter serves low-level servers, and the tool is to be the same
    endpoint = StreamableHttp(server, max_body_bytes=DEFAULT_MAX_BODY_BYTES)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with mcp.running(), endpoint.run():
            yield

    mcp = SessionGate(endpoint, resolver=places.authsvc, resource=RESOURCE)
    return Starlette(routes=[Route("/mcp", mcp)], lifespan=lifespan)


APPS: dict[str, Callable[[Places], ASGIApp]] = {
    app.__name__: app
    for app in (
        nobody,
        as_it_comes,
        stateless,
        pyjwt,
        fastmcp,
        introspection,
        issuer,
        behind_envoy,
        checked,
        gate,
        gate_unary,
        adapter,
    )
}
