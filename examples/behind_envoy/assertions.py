"""assertions.py: who is asking, by the assertion that authsvc adds to each request."""

import logging
import time
from typing import Any

import anyio
import jwt
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

RESOURCE = "http://127.0.0.1:8080/mcp"  # as clients know this server: the assertion's audience
ISSUER = "http://127.0.0.1:50053"  # [assertions] issuer
WITHOUT_FETCH_SECONDS = 3600

log = logging.getLogger("assertions")


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
