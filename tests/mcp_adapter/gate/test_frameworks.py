"""The gate in front of apps of each framework: every tool sees its caller."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from fastmcp import Context as FastContext
from fastmcp import Context as FastMCPContext
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from starlette.types import ASGIApp

from authsvc.domain.resolution import Principal, Resolution
from mcp_adapter import current_caller
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    end_session,
    endpoint_of,
    expire,
    initialize,
    message_of,
    opened,
    owner,
    principal,
    request,
    revoke,
)

pytestmark = pytest.mark.anyio


def subject(resolution: Resolution) -> str:
    return resolution.principal.subject if resolution.principal else "nobody"


def client(resolution: Resolution) -> str:
    return resolution.principal.client_id if resolution.principal else "nobody's"


def official(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    """The official SDK, high level."""
    server = MCPServer("official")

    @server.tool()
    async def whoami(ctx: Context) -> str:
        return subject(current_caller(ctx.request_context.request))

    @server.tool()
    async def meet(ctx: Context) -> str:
        await meeting.join()
        return client(current_caller(ctx.request_context.request))

    @server.tool()
    async def hold(ctx: Context) -> None:
        await ctx.report_progress(1, 2)
        await anyio.sleep_forever()

    return server.streamable_http_app(stateless_http=stateless)


def low_level(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    """The official SDK, low level."""

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        return types.ListToolsResult(tools=[types.Tool(name="whoami", input_schema=schema)])

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name == "meet":
            await meeting.join()
        if params.name == "hold":
            await ctx.session.report_progress(1, 2)
            await anyio.sleep_forever()
        who = client if params.name == "meet" else subject
        text = who(current_caller(ctx.request))
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = Server(
        "low-level",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(InMemorySubscriptionBus()),
    )
    return server.streamable_http_app(stateless_http=stateless)


def fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    """FastMCP."""
    server = FastMCP("fastmcp")

    @server.tool
    async def whoami() -> str:
        return subject(current_caller(get_http_request()))

    @server.tool
    async def meet() -> str:
        await meeting.join()
        return client(current_caller(get_http_request()))

    @server.tool
    async def hold(ctx: FastMCPContext) -> None:
        await ctx.report_progress(1, 2)
        await anyio.sleep_forever()

    return server.http_app(stateless_http=stateless)


FRAMEWORKS = (official, low_level, fastmcp)


@pytest.fixture
def resolver() -> MemoryResolver:
    return MemoryResolver(
        tokens={
            "alice-1": principal("alice"),
            "bob": principal("bob"),
            **{f"user-{number}": principal(f"user-{number}") for number in range(8)},
        }
    )


@pytest.fixture(params=FRAMEWORKS, ids=lambda make: make.__name__)
def framework(request: pytest.FixtureRequest) -> Callable[..., ASGIApp]:
    return request.param  # type: ignore[no-any-return] # pytest knows no types of parameters


@pytest.fixture(params=[True, False], ids=["stateless", "stateful"])
async def served(
    request: pytest.FixtureRequest, framework: Callable[..., ASGIApp], resolver: MemoryResolver
) -> AsyncIterator[Endpoint]:
    async with endpoint_of(framework, resolver, stateless=request.param) as endpoint:
        yield endpoint


@pytest.fixture
async def stateful(
    framework: Callable[..., ASGIApp], resolver: MemoryResolver
) -> AsyncIterator[Endpoint]:
    async with endpoint_of(framework, resolver, stateless=False, streams=True) as endpoint:
        yield endpoint


def said(response: httpx2.Response) -> str:
    return str(message_of(response)["result"]["content"][0]["text"])


async def test_the_flow_that_servers_get_wrong(served: Endpoint) -> None:
    """Connect without a token, call with one: upgraded; without one again: refused."""
    session = await opened(served)

    refused = await served.post(call("whoami"), session=session)
    assert refused.status_code == 401
    assert said(await served.post(call("whoami"), session=session, token="alice-1")) == "alice"
    assert (await served.post(call("whoami"), session=session)).status_code == 401
    assert (await served.post(call("whoami"), session=session, token="bob")).status_code == 404
    assert said(await served.post(call("whoami"), session=session, token="alice-1")) == "alice"


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_official_client_is_served(served: Endpoint, mode: str) -> None:
    headers = {"Authorization": "Bearer alice-1"}
    async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http:
        transport = streamable_http_client(f"{served.http.base_url}/mcp", http_client=http)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with Client(transport, mode=mode) as client:
                assert "whoami" in {tool.name for tool in (await client.list_tools()).tools}
                result = await client.call_tool("whoami")
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    assert content.text == "alice"


async def test_metadata_is_served_without_a_token(served: Endpoint) -> None:
    for path in (
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
    ):
        response = await served.http.get(path)
        assert response.json()["authorization_servers"] == [ISSUER]
        assert response.json()["resource"] == RESOURCE


CALLS = 8


async def test_calls_at_once_on_one_session_each_see_their_own_token(
    served: Endpoint, resolver: MemoryResolver
) -> None:
    """Tokens of one subject that differ in their client, on a session that none of them opened."""
    for number in range(CALLS):
        who = Principal(ISSUER, "alice", expire_time=2e9, client_id=f"client-{number}")
        resolver.tokens[f"token-{number}"] = who
    session = await opened(served)
    served.meeting.expected = CALLS
    seen: dict[int, str] = {}

    async def meet(number: int) -> None:
        answer = call("meet", request_id=number)
        response = await served.post(answer, session=session, token=f"token-{number}")
        seen[number] = said(response)

    async with anyio.create_task_group() as tasks:
        for number in range(CALLS):
            tasks.start_soon(meet, number)
    assert seen == {number: f"client-{number}" for number in range(CALLS)}


async def test_alternating_calls_on_one_session_each_see_their_own_token(
    served: Endpoint, resolver: MemoryResolver
) -> None:
    served.meeting.expected = 1
    for number in range(2):
        who = Principal(ISSUER, "alice", expire_time=2e9, client_id=f"client-{number}")
        resolver.tokens[f"token-{number}"] = who
    session = await opened(served, "token-0")
    for number in (0, 1, 0, 1, 1, 0):
        response = await served.post(call("meet"), session=session, token=f"token-{number}")
        assert said(response) == f"client-{number}"


# Apps that keep sessions of their own.


async def test_the_apps_own_session_id_is_adopted(stateful: Endpoint) -> None:
    session = await opened(stateful)

    assert list(stateful.resolver.sessions) == [session]
    assert ("resolve", session, "") in stateful.resolver.calls
    assert not any(method == "create" for method, *_ in stateful.resolver.calls)


@pytest.mark.parametrize("method", ["ping", "tools/list", "notifications/cancelled"])
async def test_a_session_of_the_apps_is_served_to_its_owner_alone(
    stateful: Endpoint, method: str
) -> None:
    """A ping that bears another request's id would be given that one's answer."""
    session = await opened(stateful)

    assert (await stateful.post(request(method), session=session)).status_code == 401


async def test_what_follows_upon_initialize_is_no_request(stateful: Endpoint) -> None:
    session = await stateful.open()

    disguised = await stateful.post(request("notifications/initialized"), session=session)

    assert disguised.status_code == 401


async def test_no_other_caller_answers_in_the_owners_name(stateful: Endpoint) -> None:
    session = await opened(stateful, "alice-1")
    answer = {"jsonrpc": "2.0", "id": 1, "result": {}}

    assert (await stateful.post(answer, session=session)).status_code == 401
    assert (await stateful.post(answer, session=session, token="bob")).status_code == 404


async def test_initialize_never_reaches_a_session_that_it_names(stateful: Endpoint) -> None:
    first = await opened(stateful, "alice-1")

    again = await stateful.post(initialize(), session=first, version=None)

    assert again.status_code == 200
    assert again.headers["mcp-session-id"] != first


async def test_delete_ends_it_at_both(stateful: Endpoint) -> None:
    session = await opened(stateful, "alice-1")

    for token, status in (("bob", 404), ("alice-1", 200), ("alice-1", 404)):
        headers = {
            "Mcp-Session-Id": session,
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": "2025-11-25",
        }
        response = await stateful.http.delete("/mcp", headers=headers)
        assert response.status_code == status
    assert session not in stateful.resolver.sessions
    # Known to authsvc again, it would still be unknown to the app.
    stateful.resolver.sessions[session] = owner("alice")
    response = await stateful.post(call("whoami"), session=session, token="alice-1")
    assert response.status_code == 404


async def test_a_stream_is_opened_for_the_owner_and_ends_with_the_session(
    stateful: Endpoint,
) -> None:
    session = await opened(stateful, "alice-1")
    headers = {
        "Accept": "text/event-stream",
        "Mcp-Session-Id": session,
        "MCP-Protocol-Version": "2025-11-25",
    }
    for token, status in (("", 401), ("Bearer bob", 404)):
        given = headers | ({"Authorization": token} if token else {})
        assert (await stateful.http.get("/mcp", headers=given)).status_code == status

    headers["Authorization"] = "Bearer alice-1"
    async with stateful.http.stream("GET", "/mcp", headers=headers) as response:
        assert response.status_code == 200
        del stateful.resolver.sessions[session]
        with anyio.fail_after(DEADLINE_SECONDS):
            assert [line async for line in response.aiter_lines()] == []


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize(
    "request_id", ["1e999", "-1e999", '"\\ud800"', "1.5", "true", "{}", "null"]
)
async def test_what_is_no_request_id_is_refused_whatever_the_framework(
    served: Endpoint, version: str, request_id: str
) -> None:
    session = await opened(served, "alice-1")
    meta = '{"io.modelcontextprotocol/protocolVersion": "2026-07-28"}'
    body = f'{{"jsonrpc":"2.0","id":{request_id},"method":"ping","params":{{"_meta":{meta}}}}}'
    headers = {"Mcp-Method": "ping"}

    response = await served.post(
        body.encode(), session=session, token="alice-1", version=version, headers=headers
    )

    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600
    assert response.json()["id"] is None


# Responses that stream.

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


End = Callable[[Endpoint, str], str]


async def ended(endpoint: Endpoint, session: str, body: object, version: str, end: End) -> None:
    """POST what streams, take away the right to it, and see it end with the reason."""
    assert isinstance(body, dict)
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": "Bearer alice-1",
        "MCP-Protocol-Version": version,
        "Mcp-Method": body["method"],
        **({"Mcp-Name": body["params"]["name"]} if "name" in body["params"] else {}),
        **({"Mcp-Session-Id": session} if version != "2026-07-28" else {}),
    }
    with anyio.fail_after(DEADLINE_SECONDS):
        async with endpoint.http.stream("POST", "/mcp", json=body, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            first = await anext(line async for line in lines if line.startswith("data: {"))
            reason = end(endpoint, session)
            rest = [line async for line in lines if line.startswith("data: {")]
    assert json.loads(first[5:])["method"].startswith("notifications/")
    (last,) = rest
    assert json.loads(last[5:])["id"] == body["id"]
    assert json.loads(last[5:])["error"]["data"]["reason"] == reason


@pytest.mark.parametrize("end", [revoke, expire, end_session])
async def test_a_call_that_streams_ends_with_its_caller(served: Endpoint, end: End) -> None:
    session = await opened(served, "alice-1")
    body = call("hold", _meta={"progressToken": 1})

    await ended(served, session, body, "2025-11-25", end)


@pytest.mark.parametrize("end", [revoke, expire])
async def test_a_call_that_streams_without_a_session_ends_with_its_caller(
    served: Endpoint, end: End
) -> None:
    await ended(
        served, "", call("hold", _meta={"progressToken": 1, **MODERN_META}), "2026-07-28", end
    )


@pytest.mark.parametrize("end", [revoke, expire])
@pytest.mark.parametrize("make", [official, low_level])
async def test_a_subscription_ends_with_its_caller(
    make: Callable[..., ASGIApp], resolver: MemoryResolver, end: End
) -> None:
    wanted = {"notifications": {"toolsListChanged": True}, "_meta": MODERN_META}
    async with endpoint_of(make, resolver, stateless=True) as endpoint:
        await ended(endpoint, "", request("subscriptions/listen", wanted), "2026-07-28", end)


# What an app keeps for a session, and a caller that names another's where none is read.


def keeping_official(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = MCPServer("keeping")
    kept: dict[str | None, str] = {}

    @server.tool()
    async def keep(value: str, ctx: Context) -> str:
        session = ctx.headers.get("mcp-session-id") if ctx.headers else None
        before, kept[session] = kept.get(session, "nothing"), value
        return before

    return server.streamable_http_app(stateless_http=stateless)


def keeping_fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = FastMCP("keeping")

    @server.tool
    async def keep(value: str, ctx: FastContext) -> str:
        before = await ctx.get_state("value")
        await ctx.set_state("value", value)
        return before or "nothing"

    return server.http_app(stateless_http=stateless)


@pytest.mark.parametrize(
    "make", [keeping_official, keeping_fastmcp], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "stateful"])
async def test_a_revision_without_sessions_is_no_way_into_somebody_elses(
    make: Callable[..., ASGIApp], resolver: MemoryResolver, *, stateless: bool
) -> None:
    async with endpoint_of(make, resolver, stateless=stateless) as endpoint:
        session = await opened(endpoint, "alice-1")

        async def keep(value: str) -> str:
            body = call("keep", arguments={"value": value})
            return said(await endpoint.post(body, session=session, token="alice-1"))

        assert await keep("hers") == "nothing"
        params = {"name": "keep", "arguments": {"value": "his"}}
        answer = await endpoint.modern("tools/call", params, session=session, token="bob")

        assert said(answer) == "nothing"
        assert await keep("hers again") == "hers"
