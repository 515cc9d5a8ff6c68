"""server.py: an MCP server that knows who is asking by the assertion that authsvc adds."""

import logging
import os
import time
from typing import Any

import anyio
import jwt
import uvicorn
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_http_request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

RESOURCE = "http://127.0.0.1:8080/mcp"  # as clients know this server: the assertion's audience
ISSUER = "http://127.0.0.1:50053"  # [assertions] issuer
WITHOUT_FETCH_SECONDS = 3600

log = logging.getLogger("server")


class Keys(jwt.PyJWKClient):
    """Goes on with the keys that it has, for an hour at most, while they cannot be fetched."""

    kept: dict[str, Any] | None = None
    kept_until = 0.0

    def fetch_data(self) -> dict[str, Any]:
        try:
            self.kept = dict(super().fetch_data())
            self.kept_until = time.monotonic() + WITHOUT_FETCH_SECONDS
        except jwt.PyJWKClientConnectionError as error:
            if self.kept is None or time.monotonic() > self.kept_until:
                raise
            log.warning("the keys of assertions cannot be fetched, the last ones stay: %s", error)
        return self.kept


KEYS = Keys("http://127.0.0.1:50053/.well-known/jwks.json", timeout=2)


def caller_of(assertion: str) -> dict[str, Any]:
    """The claims. Raises jwt.PyJWTError. It may fetch keys, and blocks meanwhile."""
    decoded = jwt.decode_complete(
        assertion,
        KEYS.get_signing_key_from_jwt(assertion),
        algorithms=["ES256"],
        issuer=ISSUER,
        audience=RESOURCE,
        options={"require": ["sub", "idp", "exp"]},
    )
    if decoded["header"].get("typ") != "authsvc-assertion+jwt":
        raise jwt.InvalidTokenError("another kind of token")
    claims: dict[str, Any] = decoded["payload"]
    return claims


class Callers:
    """ASGI middleware: ``request.state.caller`` has the claims, or is None without a caller."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assertion = Headers(scope=scope).get("x-authsvc-assertion")
            try:
                caller = await anyio.to_thread.run_sync(caller_of, assertion) if assertion else None
            except jwt.PyJWTError as error:
                # No fault of the client: a 401 would send it for another token.
                log.warning("assertion: %s", error)
                await Response(status_code=503)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, send)


def the_caller(scope: str = "") -> dict[str, Any]:
    """Who is asking. A tool refuses without a caller: not every way here leads through a check."""
    caller: dict[str, Any] | None = get_http_request().state.caller
    if caller is None:
        raise ToolError("This tool needs a caller.")
    if scope and scope not in caller["scope"].split():
        raise ToolError(f"This tool needs the scope {scope}.")
    return caller


mcp = FastMCP("behind-envoy")


@mcp.tool
async def whoami() -> str:
    """Who is asking."""
    caller = the_caller()
    # A subject is unique at its issuer: the key of a user is both, idp and sub.
    return f"{caller['sub']}: {', '.join(caller['roles'])}"


@mcp.tool
async def publish() -> str:
    """Publish the notes."""
    the_caller("notes.publish")
    return "published"


app = Callers(mcp.http_app(stateless_http=True))

if __name__ == "__main__":
    # On loopback: Envoy alone reaches it.
    uvicorn.run(app, port=int(os.environ.get("PORT", "3000")))
