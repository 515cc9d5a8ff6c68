"""MCP servers behind a gateway, in Python: they believe ``x-authsvc-assertion``, and nothing else.

Each has the same tools, and so has ``tests/clients/upstream.mjs``: ``whoami`` returns the claims of
the assertion, ``write`` needs a scope at the gateway, ``headers`` returns what came, ``hold``
reports progress and ends once ``release`` is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import jwt
from fastmcp import Context as FastMCPContext
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.server.mcpserver import Context, MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.bounds import TIMEOUT_SECONDS

ASSERTION = "x-authsvc-assertion"
TYPE = "authsvc-assertion+jwt"
LONGEST_SECONDS = 60
"""How long an assertion may be valid."""

_CLAIMS = ("iss", "aud", "sub", "idp", "iat", "exp")


class Verifier:
    """Verifies assertions as a server's author would, with PyJWT.

    Args:
        jwks: URL of authsvc's keys.
        issuer: the authsvc.
        resource: the server.
        clock: the time, in seconds since the epoch.
    """

    def __init__(self, jwks: str, issuer: str, resource: str, clock: Callable[[], float]) -> None:
        self._keys = jwt.PyJWKClient(jwks, timeout=TIMEOUT_SECONDS)
        self._issuer = issuer
        self._resource = resource
        self._clock = clock

    def claims(self, assertion: str) -> dict[str, Any]:
        """What an assertion says.

        Raises:
            jwt.PyJWTError: it is not authsvc's, not for this server, or not valid now.
        """
        claims: dict[str, Any] = jwt.decode(
            assertion,
            self._keys.get_signing_key_from_jwt(assertion),
            algorithms=["ES256"],
            audience=self._resource,
            issuer=self._issuer,
            # The time is the test's.
            options={"require": [*_CLAIMS], "verify_exp": False, "verify_iat": False},
        )
        if jwt.get_unverified_header(assertion).get("typ") != TYPE:
            raise jwt.InvalidTokenError("it is of another type")
        if not claims["iat"] <= self._clock() < claims["exp"] <= claims["iat"] + LONGEST_SECONDS:
            raise jwt.ExpiredSignatureError("it is not valid now, or for too long")
        return claims


@dataclass(frozen=True)
class Seen:
    """A request that reached an upstream.

    Attributes:
        method: of HTTP.
        path: with its query.
        headers: names and values in their order, as they came.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """All values of a header, whose name is in lower case."""
        return [value for each, value in self.headers if each == name]


@dataclass
class Upstream:
    """What the tools of a server share.

    Attributes:
        verifier: of its assertions.
        seen: the requests that reached it.
    """

    verifier: Verifier
    seen: list[Seen] = field(default_factory=list)
    _released: anyio.Event = field(default_factory=anyio.Event)

    async def whoami(self, headers: Mapping[str, str]) -> str:
        """The claims of a request's assertion as JSON; null without one."""
        assertion = headers.get(ASSERTION)
        if assertion is None:
            return json.dumps(None)
        # It fetches keys, and blocks.
        return json.dumps(await anyio.to_thread.run_sync(self.verifier.claims, assertion))

    def hold(self) -> anyio.Event:
        """Set when ``release`` is called next."""
        return self._released

    def release(self) -> None:
        """End the calls that are held."""
        self._released.set()
        self._released = anyio.Event()

    def recording(self, app: ASGIApp) -> ASGIApp:
        """The app, with each of its requests in ``seen``."""

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                headers = ((name.decode(), value.decode()) for name, value in scope["headers"])
                query = scope["query_string"].decode()
                path = scope["path"] + (f"?{query}" if query else "")
                self.seen.append(Seen(scope["method"], path, tuple(headers)))
            await app(scope, receive, send)

        return recorded


MakeApp = Callable[[Upstream], ASGIApp]


def official(upstream: Upstream, *, stateless: bool) -> ASGIApp:
    """The official SDK."""
    server = MCPServer("upstream")

    @server.tool()
    async def whoami(ctx: Context) -> str:
        return await upstream.whoami(ctx.headers or {})

    @server.tool()
    async def write() -> str:
        return json.dumps("written")

    @server.tool()
    async def headers(ctx: Context) -> str:
        return json.dumps([*(ctx.headers or {}).items()])

    @server.tool()
    async def hold(ctx: Context) -> str:
        released = upstream.hold()
        await ctx.report_progress(1, 2)
        await released.wait()
        return json.dumps("held")

    @server.tool()
    async def release() -> str:
        upstream.release()
        return json.dumps("released")

    return server.streamable_http_app(stateless_http=stateless)


def fastmcp(upstream: Upstream, *, stateless: bool) -> ASGIApp:
    """FastMCP."""
    server = FastMCP("upstream")

    @server.tool
    async def whoami() -> str:
        return await upstream.whoami(get_http_request().headers)

    @server.tool
    async def write() -> str:
        return json.dumps("written")

    @server.tool
    async def headers() -> str:
        return json.dumps([*get_http_request().headers.items()])

    @server.tool
    async def hold(ctx: FastMCPContext) -> str:
        released = upstream.hold()
        await ctx.report_progress(1, 2)
        await released.wait()
        return json.dumps("held")

    @server.tool
    async def release() -> str:
        upstream.release()
        return json.dumps("released")

    return server.http_app(stateless_http=stateless)
