"""The SDK's spans are made where somebody collects them, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp_types import ListToolsResult
from opentelemetry.sdk.trace import TracerProvider
from starlette.requests import Request

from mcp_adapter.transport import spans
from mcp_adapter.transport.message_context import MessageContext
from mcp_adapter.transport.streamable import StreamableHttp
from tests.mcp_adapter.harness import LEGACY

pytestmark = pytest.mark.anyio


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that the SDK makes spans for."""
    methods: list[str] = []
    serve = OpenTelemetryMiddleware.__call__

    async def noted(
        self: OpenTelemetryMiddleware,
        ctx: Any,  # noqa: ANN401 - the SDK's
        call_next: CallNext,
    ) -> HandlerResult:
        methods.append(ctx.method)
        return await serve(self, ctx, call_next)

    monkeypatch.setattr(OpenTelemetryMiddleware, "__call__", noted)
    return methods


async def discovered(server: Server[Any]) -> dict[str, Any]:
    """The answer to a message."""
    return await serve_one(
        server,
        MessageContext.of(Request({"type": "http", "headers": []}), 1),
        "tools/list",
        None,
        connection=Connection.from_envelope(LEGACY, None, None),
        lifespan_state=None,
    )


def served() -> Server[Any]:
    """An MCP server with a middleware of its own."""

    async def list_tools(ctx: object, params: object) -> ListToolsResult:
        return ListToolsResult(tools=[])

    async def mark(ctx: Any, call_next: CallNext) -> HandlerResult:  # noqa: ANN401 - the SDK's
        result: Any = await call_next(ctx)
        return {**result, "marked": True}

    server: Server[Any] = Server("t", on_list_tools=list_tools)
    server.middleware.append(mark)
    StreamableHttp(server, max_body_bytes=1000)
    return server


async def test_nobody_collects_them(made: list[str]) -> None:
    assert await discovered(served()) == {"tools": [], "marked": True}
    assert made == []


async def test_somebody_collects_them_from_now_on(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served()
    monkeypatch.setattr(spans, "get_tracer_provider", TracerProvider)

    assert await discovered(server) == {"tools": [], "marked": True}
    assert made == ["tools/list"]


async def test_a_server_is_served_by_a_second_transport_in_the_same_way(made: list[str]) -> None:
    server = served()
    StreamableHttp(server, max_body_bytes=1000)

    await discovered(server)

    assert made == []
    assert len(server.middleware) == 2
