"""Filtered lists of each framework, and of the reference server, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from fastmcp import FastMCP
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from mcp_adapter import Requirement, default_requirement
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    Endpoint,
    Meeting,
    MemoryResolver,
    demo_app,
    endpoint_of,
    message_of,
    opened,
    principal,
    request,
    running,
)

pytestmark = pytest.mark.anyio

NAMES = ["public", "read", "write"]
ALLOWED = {"": ["public"], "reader": ["public", "read"], "writer": NAMES}


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """By the last part of a name or a URI."""
    if method not in {"tools/call", "prompts/get", "resources/read"}:
        return default_requirement(method, params)
    match str(params.get("uri" if method == "resources/read" else "name")).rpartition("/")[2]:
        case "public":
            return None
        case "write":
            return Requirement(("things.write",))
    return Requirement(("things.read",))


def official(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    """The official SDK, which compresses what it may."""
    mcp = MCPServer("official", cache_hints=HINTS)
    for name in NAMES:
        mcp.tool(name=name)(lambda: "x" * 1000)
        mcp.prompt(name=name)(lambda: "prompt")
        mcp.resource(f"docs://all/{name}", name=name)(lambda: "text")
    app = mcp.streamable_http_app(stateless_http=stateless)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    return app


def fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    """FastMCP, with JSON as responses."""
    mcp: FastMCP[Any] = FastMCP("fastmcp", list_page_size=2)
    for name in NAMES:
        mcp.tool(lambda: "x", name=name)
        mcp.prompt(lambda: "prompt", name=name)
        mcp.resource(f"docs://all/{name}", name=name)(lambda: "text")
    return mcp.http_app(stateless_http=stateless, json_response=True)


HINTS: dict[Any, CacheHint] = {"tools/list": CacheHint(ttl_ms=1000, scope="public")}


@pytest.fixture
def resolver() -> MemoryResolver:
    return MemoryResolver(
        {
            "reader": principal("alice", "things.read"),
            "writer": principal("alice", "things.read", "things.write"),
        }
    )


@pytest.fixture(params=[official, fastmcp], ids=lambda make: make.__name__)
def framework(request: pytest.FixtureRequest) -> Callable[..., ASGIApp]:
    return request.param  # type: ignore[no-any-return] # pytest knows no types of parameters


@asynccontextmanager
async def connected(endpoint: Endpoint, token: str, mode: str) -> AsyncIterator[Client]:
    """The official client with a token, or without one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http:
        transport = streamable_http_client(f"{endpoint.http.base_url}/mcp", http_client=http)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with Client(transport, mode=mode) as client:
                yield client


async def pages(client: Client) -> list[types.ListToolsResult]:
    """The pages of the list of tools."""
    found = [await client.list_tools()]
    while found[-1].next_cursor:
        found.append(await client.list_tools(cursor=found[-1].next_cursor))
    return found


@pytest.mark.parametrize(
    ("token", "mode", "stateless"),
    [
        *((token, mode, True) for token in ALLOWED for mode in ("legacy", "2026-07-28")),
        *((token, "legacy", False) for token in ALLOWED if token),
    ],
)
async def test_the_official_client_lists_what_it_may_call(
    framework: Callable[..., ASGIApp],
    resolver: MemoryResolver,
    token: str,
    mode: str,
    stateless: bool,
) -> None:
    async with (
        endpoint_of(
            framework,
            resolver,
            stateless=stateless,
            streams=not stateless,
            requirement=requirement,
            filter_lists=True,
        ) as endpoint,
        connected(endpoint, token, mode) as client,
    ):
        tools = [tool.name for page in await pages(client) for tool in page.tools]
        allowed = [name for name in NAMES if name in ALLOWED[token]]
        assert tools == allowed
        for name in allowed:
            assert not (await client.call_tool(name)).is_error
        prompts = await client.list_prompts()
        resources = await client.list_resources()
        assert {it.name for it in prompts.prompts} <= set(allowed)
        assert {it.name for it in resources.resources} <= set(allowed)
        if framework is official:
            assert [it.name for it in prompts.prompts] == allowed
            assert [it.name for it in resources.resources] == allowed


async def test_paged_lists_keep_their_cursors(resolver: MemoryResolver) -> None:
    async with (
        endpoint_of(
            fastmcp, resolver, stateless=True, requirement=requirement, filter_lists=True
        ) as endpoint,
        connected(endpoint, "", "2026-07-28") as client,
    ):
        first, second = await pages(client)

    assert [tool.name for tool in first.tools] == ["public"]
    assert second.tools == []


async def test_caching_hints_of_the_sdk_are_marked_private(resolver: MemoryResolver) -> None:
    async with endpoint_of(
        official, resolver, stateless=True, requirement=requirement, filter_lists=True
    ) as endpoint:
        response = await endpoint.modern("tools/list")

    result = message_of(response)["result"]
    assert (result["ttlMs"], result["cacheScope"]) == (1000, "private")
    assert "private" in response.headers["cache-control"]
    assert "content-encoding" not in response.headers


class Events(EventStore):
    """Keeps the events of streams, for clients that resume them."""

    def __init__(self) -> None:
        self.stored: list[tuple[StreamId, types.JSONRPCMessage | None]] = []

    async def store_event(
        self, stream_id: StreamId, message: types.JSONRPCMessage | None
    ) -> EventId:
        """See ``EventStore``."""
        self.stored.append((stream_id, message))
        return str(len(self.stored))

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        """See ``EventStore``."""
        place = int(last_event_id)
        stream = self.stored[place - 1][0]
        for number, (stream_id, message) in enumerate(self.stored[place:], place + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


async def test_a_list_on_a_resumed_stream_is_filtered(resolver: MemoryResolver) -> None:
    events = Events()

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in NAMES]
        return types.ListToolsResult(tools=tools)

    def resumable(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        server = Server("resumable", on_list_tools=list_tools)
        return server.streamable_http_app(stateless_http=stateless, event_store=events)

    async with endpoint_of(
        resumable,
        resolver,
        stateless=False,
        streams=True,
        requirement=requirement,
        filter_lists=True,
    ) as endpoint:
        session = await opened(endpoint, "reader")
        await endpoint.post(request("tools/list"), session=session, token="writer")
        before = next(
            number
            for number, (_, message) in enumerate(events.stored)
            if isinstance(message, types.JSONRPCResponse) and "tools" in message.result
        )
        headers = {
            "Accept": "text/event-stream",
            "Authorization": "Bearer reader",
            "Last-Event-ID": str(before),
            "Mcp-Session-Id": session,
            "MCP-Protocol-Version": LEGACY,
        }
        async with endpoint.http.stream("GET", "/mcp", headers=headers) as response:
            with anyio.fail_after(DEADLINE_SECONDS):
                data = await anext(
                    line async for line in response.aiter_lines() if line.startswith("data: {")
                )

    assert '"read"' in data
    assert '"write"' not in data


async def test_the_reference_server(resolver: MemoryResolver) -> None:
    listed = {}
    for is_filtered in (False, True):
        app = demo_app(resolver, Meeting(), filter_lists=is_filtered)
        async with (
            running(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
        ):
            endpoint = Endpoint(http, resolver, Meeting())
            for token in ALLOWED:
                response = await endpoint.modern("tools/list", token=token or None)
                tools = message_of(response)["result"]["tools"]
                listed[is_filtered, token] = {tool["name"] for tool in tools}

    everything = listed[False, ""]
    assert listed[False, "reader"] == listed[True, "writer"] == everything
    assert listed[True, ""] == {"public"}
    assert listed[True, "reader"] == everything - {"write"}
