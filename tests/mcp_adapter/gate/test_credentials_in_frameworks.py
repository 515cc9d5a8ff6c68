"""Tools of each framework ask for credentials with the token of their own request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import mcp_types as types
import pytest
from fastmcp import Client as FastMCPClient
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.client.client import Client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from authsvc.domain.resolution import BearerCredentials, Secret
from mcp_adapter import caller
from mcp_adapter.testing import as_caller
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    endpoint_of,
    message_of,
    opened,
    principal,
)

pytestmark = pytest.mark.anyio

TOKENS = ("alice-1", "alice-2", "alice-3")


async def issued(request: HTTPConnection | None) -> str:
    found = await caller(request).credentials("api", BearerCredentials)
    return found.access_token.reveal()


def official(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = MCPServer("official")

    @server.tool()
    async def api(ctx: Context) -> str:
        await meeting.join()
        return await issued(ctx.request_context.request)

    return server.streamable_http_app(stateless_http=stateless)


def low_level(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        return types.ListToolsResult(tools=[types.Tool(name="api", input_schema=schema)])

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        await meeting.join()
        text = await issued(ctx.request)
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = Server("low-level", on_list_tools=list_tools, on_call_tool=call_tool)
    return server.streamable_http_app(stateless_http=stateless)


def fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = FastMCP("fastmcp")

    @server.tool
    async def api() -> str:
        await meeting.join()
        return await issued(get_http_request())

    return server.http_app(stateless_http=stateless)


def token_of_the_api(token: str) -> BearerCredentials:
    return BearerCredentials(Secret(f"api-token-for-{token}"), "Bearer", expire_time=2e9)


def resolver_of_alice() -> MemoryResolver:
    """Alice has three tokens, and for each another token of the API."""
    resolver = MemoryResolver({it: principal("alice") for it in TOKENS})
    resolver.named = {it: {"api": token_of_the_api(it)} for it in TOKENS}
    return resolver


def text_of(message: Any) -> str:  # noqa: ANN401 - JSON
    return str(message["result"]["content"][0]["text"])


@pytest.mark.parametrize("make", [official, low_level, fastmcp])
@pytest.mark.parametrize("kind", ["stateful", "stateless", "modern"])
async def test_tokens_that_take_turns_in_one_session_get_their_own(
    make: Callable[..., ASGIApp], kind: str
) -> None:
    found: dict[str, str] = {}
    stateless = kind != "stateful"
    async with endpoint_of(make, resolver_of_alice(), stateless=stateless) as endpoint:
        session = "" if kind == "modern" else await opened(endpoint, TOKENS[0])

        async def ask(token: str) -> None:
            answer = await asked(endpoint, session, token)
            found[token] = text_of(message_of(answer))

        endpoint.meeting.expected = len(TOKENS)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for token in TOKENS:
                    tasks.start_soon(ask, token)
    assert found == {it: f"api-token-for-{it}" for it in TOKENS}


async def asked(endpoint: Endpoint, session: str, token: str) -> Any:  # noqa: ANN401 - a response
    if not session:
        return await endpoint.modern("tools/call", {"name": "api", "arguments": {}}, token=token)
    return await endpoint.post(call("api", token), session=session, token=token)


async def test_a_tool_in_a_thread_asks_by_the_event_loop() -> None:
    server, fast = MCPServer("official"), FastMCP("fastmcp")

    def issued_in_thread(request: HTTPConnection | None) -> str:
        found = anyio.from_thread.run(caller(request).credentials, "api")
        assert isinstance(found, BearerCredentials)
        return found.access_token.reveal()

    @server.tool()
    def api(ctx: Context) -> str:
        return issued_in_thread(ctx.request_context.request)

    @fast.tool(name="api")
    def of_fastmcp() -> str:
        return issued_in_thread(get_http_request())

    with as_caller("alice", named={"api": token_of_the_api("alice")}):
        async with Client(server) as client:
            answer = await client.call_tool("api", {})
        async with FastMCPClient(fast) as fast_client:
            fast_answer = await fast_client.call_tool("api", {})
    assert "api-token-for-alice" in str(answer.content)
    assert fast_answer.data == "api-token-for-alice"


async def test_in_memory_clients_have_those_of_the_made_request() -> None:
    server, fast = MCPServer("official"), FastMCP("fastmcp")

    @server.tool()
    async def api(ctx: Context) -> str:
        return await issued(ctx.request_context.request)

    @fast.tool(name="api")
    async def of_fastmcp() -> str:
        return await issued(get_http_request())

    with as_caller("alice", named={"api": token_of_the_api("alice")}):
        async with Client(server) as client:
            answer = await client.call_tool("api", {})
        async with FastMCPClient(fast) as fast_client:
            fast_answer = await fast_client.call_tool("api", {})
    assert "api-token-for-alice" in str(answer.content)
    assert fast_answer.data == "api-token-for-alice"
