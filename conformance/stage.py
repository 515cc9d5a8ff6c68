"""The servers that the suite tests: authsvc, the adapter around a server for the suite, a proxy."""

from __future__ import annotations

import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import uvicorn
from starlette.types import ASGIApp

from authsvc.client import AuthClient
from authsvc.domain.resolution import Resolver
from authsvc.http_auth.requirements import RequirementOf
from authsvc.server.config import Settings as AuthsvcSettings
from authsvc.server.development import mint_token
from authsvc.server.running import running
from conformance.everything import everything_server
from conformance.proxy import AuthorizingProxy
from mcp_adapter import default_requirement
from mcp_adapter.server.app import build_app
from mcp_adapter.server.config import Settings as AdapterSettings

RESOURCE: Final = "http://127.0.0.1/mcp"
ISSUER: Final = "https://idp.example"
TOKEN_TTL_SECONDS: Final = 3600

ANONYMOUS: Final = "anonymous"
WITH_TOKEN: Final = "with a token"  # noqa: S105 - a name, not a token
CONFIGURATIONS: Final = (ANONYMOUS, WITH_TOKEN)


@asynccontextmanager
async def stage(configuration: str) -> AsyncIterator[str]:
    """The URL of an MCP endpoint.

    Args:
        configuration: ``ANONYMOUS`` is an adapter where nothing needs a token. With ``WITH_TOKEN``
            calls need one, as they do by default, and the endpoint is that of a proxy in front of
            the adapter, which adds it.
    """
    async with AsyncExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        settings = _authsvc_settings(folder)
        target = await opened.enter_async_context(running(settings))
        authsvc = await opened.enter_async_context(AuthClient(target, deadline_seconds=10))
        requirement = _nothing if configuration == ANONYMOUS else default_requirement
        url = await opened.enter_async_context(_serving(_adapter(authsvc, requirement)))
        if configuration == WITH_TOKEN:
            http = await opened.enter_async_context(
                httpx2.AsyncClient(timeout=None, trust_env=False)
            )
            token = partial(_token, settings)
            url = await opened.enter_async_context(_serving(AuthorizingProxy(http, url, token)))
        yield f"{url}/mcp"


def _nothing(method: str, params: object) -> None:
    """No requirement: the server is open to all."""


def _authsvc_settings(folder: Path) -> AuthsvcSettings:
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32), encoding="ascii")
    values: dict[str, Any] = {
        "listen": f"unix:{folder}/authsvc.sock",
        "resources": (RESOURCE,),
        "drain_seconds": 0.0,
        "store": {"kind": "memory"},
        "issuers": [{"issuer": ISSUER, "algorithms": ["HS256"], "secret_file": secret}],
        "development": {"issuer": ISSUER, "audience": RESOURCE},
    }
    return AuthsvcSettings(**values)


def _token(settings: AuthsvcSettings) -> str:
    """A new token each time, so that the token of a session keeps changing."""
    claims = {"sub": "suite"}
    return mint_token(settings, claims, ttl_seconds=TOKEN_TTL_SECONDS, now=time.time())


def _adapter(authsvc: Resolver, requirement: RequirementOf) -> ASGIApp:
    async def ready() -> None:
        """Always ready."""

    return build_app(
        AdapterSettings(resource=RESOURCE, authorization_servers=(ISSUER,)),
        everything_server(),
        resolver=authsvc,
        ready=ready,
        requirement=requirement,
        scopes=(),
    )


@asynccontextmanager
async def _serving(app: ASGIApp) -> AsyncIterator[str]:
    """The app over HTTP, on a port of its own; its origin."""
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the process, which runs several servers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
