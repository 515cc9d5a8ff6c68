"""The caller, as apps get it from their frameworks: these apps do not import the gate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Annotated, Any

import anyio
import httpx2
import mcp_types as types
import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import get_access_token as fast_access_token
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.sessions import UserSession
from mcp.client.client import Client
from mcp.client.context import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import auth_context_var, get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.authentication import UnauthenticatedUser, requires
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.domain.resolution import Actor, Principal
from mcp_adapter import SessionGate
from mcp_adapter.gate.framework_users import User, _loaded_sdk
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    LEGACY,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    endpoint_of,
    message_of,
    opened,
    owner,
    request,
)

pytestmark = pytest.mark.anyio

OTHER_ISSUER = "https://other.example"


def known(
    subject: str, client: str, *, issuer: str = ISSUER, scopes: tuple[str, ...] = ("read",)
) -> Principal:
    claims = b'{"email": "%s@example.com"}' % subject.encode()
    return Principal(issuer, subject, 2e9, client_id=client, scopes=scopes, claims_json=claims)


@pytest.fixture
def resolver() -> MemoryResolver:
    """Alice with two clients, an Alice of another issuer's, and Bob."""
    return MemoryResolver(
        tokens={
            "alice-1": known("alice", "client-1"),
            "alice-2": known("alice", "client-2"),
            "alice-writer": known("alice", "client-1", scopes=("read", "write")),
            "other-alice": known("alice", "client-1", issuer=OTHER_ISSUER),
            "bob": known("bob", "client-1"),
            "alice-by-agent": replace(
                known("alice", "client-1"), actor=Actor("agent", actor=Actor("first"))
            ),
        }
    )


def described(token: AccessToken | None) -> str:
    if token is None:
        return "nobody"
    assert token.token.startswith("not-a-token:")
    assert token.expires_at == 2e9
    assert token.resource == RESOURCE
    assert token.claims is not None
    assert token.claims["email"] == f"{token.subject}@example.com"
    assert token.claims["sub"] == token.subject
    acting = token.claims.get("act")
    return f"{token.claims['iss']} {token.subject} {token.client_id} {token.scopes} {acting}"


def expected(who: Principal) -> str:
    acting = who.actor.claim() if who.actor is not None else None
    return f"{who.issuer} {who.subject} {who.client_id} {list(who.scopes)} {acting}"


def official(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = MCPServer("official")

    @server.tool()
    async def whoami() -> str:
        await meeting.join()
        return described(get_access_token())

    return server.streamable_http_app(stateless_http=stateless)


def low_level(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        return types.ListToolsResult(tools=[types.Tool(name="whoami", input_schema=schema)])

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        await meeting.join()
        text = described(get_access_token())
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = Server("low-level", on_list_tools=list_tools, on_call_tool=call_tool)
    return server.streamable_http_app(stateless_http=stateless)


def fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = FastMCP("fastmcp")

    @server.tool
    async def whoami() -> str:
        await meeting.join()
        return described(fast_access_token())

    return server.http_app(stateless_http=stateless)


@pytest.fixture(params=[official, low_level, fastmcp], ids=lambda make: make.__name__)
def framework(request: pytest.FixtureRequest) -> Callable[..., ASGIApp]:
    return request.param  # type: ignore[no-any-return] # pytest knows no types of parameters


@pytest.fixture(params=[True, False], ids=["stateless", "stateful"])
async def served(
    request: pytest.FixtureRequest, framework: Callable[..., ASGIApp], resolver: MemoryResolver
) -> AsyncIterator[Endpoint]:
    async with endpoint_of(framework, resolver, stateless=request.param) as endpoint:
        yield endpoint


def said(response: httpx2.Response) -> str:
    return str(message_of(response)["result"]["content"][0]["text"])


@pytest.mark.parametrize("creator", [None, "alice-1", "alice-2"])
async def test_the_frameworks_own_access_token_is_of_the_request(
    served: Endpoint, creator: str | None
) -> None:
    """Not of the caller that opened the session, which does not lock out other clients either."""
    session = await opened(served, creator)

    for token in ("alice-1", "alice-2", "alice-by-agent", "alice-writer", "alice-1"):
        response = await served.post(call("whoami"), session=session, token=token)
        assert said(response) == expected(served.resolver.tokens[token])
    assert (await served.post(call("whoami"), session=session, token="bob")).status_code == 404


async def test_calls_at_once_each_have_their_own(served: Endpoint) -> None:
    session = await opened(served, "alice-1")
    tokens = ["alice-1", "alice-2", "alice-writer"] * 3
    served.meeting.expected = len(tokens)
    seen: dict[int, str] = {}

    async def ask(number: int) -> None:
        answer = call("whoami", request_id=number)
        response = await served.post(answer, session=session, token=tokens[number])
        seen[number] = said(response)

    async with anyio.create_task_group() as tasks:
        for number in range(len(tokens)):
            tasks.start_soon(ask, number)
    assert seen == {
        number: expected(served.resolver.tokens[token]) for number, token in enumerate(tokens)
    }


async def test_the_later_revision_has_it_too(served: Endpoint) -> None:
    params = {"name": "whoami", "arguments": {}}
    for token in ("alice-1", "bob", "other-alice"):
        response = await served.modern("tools/call", params, token=token)
        assert said(response) == expected(served.resolver.tokens[token])


@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "stateful"])
async def test_a_request_without_a_token_has_no_user_on_an_owned_session(
    framework: Callable[..., ASGIApp], resolver: MemoryResolver, *, stateless: bool
) -> None:
    def everything_is_open(method: str, params: object) -> None:
        return None

    async with endpoint_of(
        framework, resolver, stateless=stateless, requirement=everything_is_open
    ) as endpoint:
        session = await opened(endpoint, "alice-1")
        anonymous = await endpoint.modern("tools/call", {"name": "whoami", "arguments": {}})
        assert said(anonymous) == "nobody"
        if stateless:
            assert said(await endpoint.post(call("whoami"), session=session)) == "nobody"
        known = await endpoint.post(call("whoami"), session=session, token="alice-2")
        assert said(known) == expected(resolver.tokens["alice-2"])


# What the frameworks keep for a caller.


class Size(BaseModel):
    """What is asked for."""

    size: str


async def ask_size() -> Elicit[Size]:
    return Elicit("Which size?", Size)


def asking(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = MCPServer("asking")

    @server.tool()
    async def order(size: Annotated[Size, Resolve(ask_size)], ctx: Context) -> str:
        return f"{size.size} for {described(get_access_token())}"

    return server.streamable_http_app(stateless_http=stateless)


def asking_fastmcp(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = FastMCP("asking")
    params = types.ElicitRequestFormParams(
        message="Which size?", requested_schema=Size.model_json_schema()
    )

    @server.tool
    async def order(ctx: FastContext) -> str | types.InputRequiredResult:
        if ctx.input_responses is None:
            question = types.ElicitRequest(params=params)
            return types.InputRequiredResult(
                input_requests={"size": question}, request_state="asked"
            )
        assert ctx.request_state == "asked"
        answer = ctx.input_responses["size"]
        assert isinstance(answer, types.ElicitResult)
        size = Size.model_validate(answer.content)
        return f"{size.size} for {described(fast_access_token())}"

    return server.http_app(stateless_http=stateless)


CAN_ELICIT: dict[str, Any] = {
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}
}


async def order(endpoint: Endpoint, token: str, **params: object) -> httpx2.Response:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", **CAN_ELICIT}
    body = request("tools/call", {"name": "order", "arguments": {}, "_meta": meta, **params})
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "order"}
    return await endpoint.post(body, token=token, version="2026-07-28", headers=headers)


@pytest.mark.parametrize("make", [asking, asking_fastmcp], ids=lambda make: make.__name__)
@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "stateful"])
async def test_the_state_of_another_caller_is_rejected(
    make: Callable[..., ASGIApp], resolver: MemoryResolver, *, stateless: bool
) -> None:
    async with endpoint_of(make, resolver, stateless=stateless) as endpoint:
        asked = message_of(await order(endpoint, "alice-1"))["result"]
        (key,) = asked["inputRequests"]
        answered = {
            "inputResponses": {key: {"action": "accept", "content": {"size": "L"}}},
            "requestState": asked["requestState"],
        }
        for token in ("bob", "other-alice", "alice-2"):
            error = (await order(endpoint, token, **answered)).json()["error"]
            assert (error["code"], error["data"]) == (-32602, {"reason": "invalid_request_state"})
        served = await order(endpoint, "alice-1", **answered)

    assert said(served) == f"L for {expected(resolver.tokens['alice-1'])}"


@pytest.mark.parametrize(
    ("make", "mode"),
    [(asking, "legacy"), (asking, "2026-07-28"), (asking_fastmcp, "2026-07-28")],
    ids=["legacy", "modern", "fastmcp"],
)
async def test_a_user_is_asked_in_both_eras(
    make: Callable[..., ASGIApp], resolver: MemoryResolver, mode: str
) -> None:
    async def answer(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"size": "M"})

    headers = {"Authorization": "Bearer alice-1"}
    async with (
        endpoint_of(make, resolver, stateless=False) as endpoint,
        httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http,
    ):
        transport = streamable_http_client(f"{endpoint.http.base_url}/mcp", http_client=http)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with Client(transport, mode=mode, elicitation_callback=answer) as client:
                result = await client.call_tool("order")
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    assert content.text == f"M for {expected(resolver.tokens['alice-1'])}"


def keeping(meeting: Meeting, *, stateless: bool) -> ASGIApp:
    server = FastMCP("keeping")

    @server.tool
    async def keep(value: str, session: UserSession) -> str:
        before = await session.get("value", "nothing")
        await session.set("value", value)
        return str(before)

    @server.tool(auth=require_scopes("write"))
    async def write() -> str:
        return "written"

    return server.http_app(stateless_http=stateless)


@pytest.fixture(params=[True, False], ids=["stateless", "stateful"])
async def keeper(
    request: pytest.FixtureRequest, resolver: MemoryResolver
) -> AsyncIterator[Endpoint]:
    async with endpoint_of(keeping, resolver, stateless=request.param) as endpoint:
        yield endpoint


async def test_fastmcp_keeps_users_apart(keeper: Endpoint) -> None:
    async def keep(token: str, value: str) -> str:
        session = await opened(keeper)
        body = call("keep", arguments={"value": value})
        return said(await keeper.post(body, session=session, token=token))

    assert await keep("alice-1", "hers") == "nothing"
    assert await keep("bob", "his") == "nothing"
    assert await keep("other-alice", "the other's") == "nothing"
    assert await keep("alice-writer", "hers again") == "hers"


@pytest.mark.parametrize("version", [LEGACY, "2026-07-28"])
async def test_fastmcp_hides_what_a_scope_is_needed_for(keeper: Endpoint, version: str) -> None:
    session = await opened(keeper) if version == LEGACY else None

    async def names(token: str | None) -> set[str]:
        if session is None:
            response = await keeper.modern("tools/list", token=token)
        else:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            response = await keeper.post(body, session=session, token=token)
        return {tool["name"] for tool in message_of(response)["result"]["tools"]}

    assert await names("alice-1") == {"keep"}
    assert await names("alice-writer") == {"keep", "write"}


async def test_fastmcp_calls_a_tool_that_it_hides_unknown(keeper: Endpoint) -> None:
    """With no 403 and no scope to ask for: docs/protect-your-server.md says so."""
    session = await opened(keeper)

    response = await keeper.post(call("write"), session=session, token="alice-1")

    assert response.status_code == 200
    assert "Unknown tool" in response.text


async def test_fastmcp_caches_nothing_of_ones_for_another(resolver: MemoryResolver) -> None:
    """Its cache goes by what stands in the token's place."""

    def caching(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        server = FastMCP("caching", middleware=[ResponseCachingMiddleware()])

        @server.tool
        async def whoami() -> str:
            return described(fast_access_token())

        return server.http_app(stateless_http=stateless)

    async with endpoint_of(caching, resolver, stateless=True) as endpoint:
        tokens = ("alice-1", "bob", "other-alice", "alice-2", "alice-writer", "alice-by-agent")
        for token in tokens:
            session = await opened(endpoint)
            response = await endpoint.post(call("whoami"), session=session, token=token)
            assert said(response) == expected(resolver.tokens[token])


# Apps of plain Starlette.


@requires("read")
async def described_by_starlette(request: Request) -> Response:
    user = request.user
    result = [user.is_authenticated, user.display_name, user.identity, request.auth.scopes]
    return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {"user": result}})


async def undescribed(request: Request) -> Response:
    result = [request.user.is_authenticated, request.user.display_name, request.auth.scopes]
    return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {"user": result}})


@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "stateful"])
async def test_starlettes_user_is_the_caller(resolver: MemoryResolver, *, stateless: bool) -> None:
    def plain(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        return Starlette(routes=[Route("/mcp", described_by_starlette, methods=["POST"])])

    async with endpoint_of(plain, resolver, stateless=stateless) as endpoint:
        response = await endpoint.modern("tools/call", {"name": "x"}, token="alice-1")
        anonymous = await endpoint.modern("ping")

    assert response.json()["result"]["user"] == [
        *(True, "alice", f'["{ISSUER}", "alice"]', ["read"]),
    ]
    assert anonymous.status_code == 403


async def test_starlettes_user_is_unauthenticated_without_a_token(resolver: MemoryResolver) -> None:
    def plain(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        return Starlette(routes=[Route("/mcp", undescribed, methods=["POST"])])

    async with endpoint_of(plain, resolver, stateless=True) as endpoint:
        response = await endpoint.modern("ping")

    assert response.json()["result"]["user"] == [False, "", []]


def test_the_user_of_the_sdk_is_current_within_a_block() -> None:
    sdk = _loaded_sdk.__wrapped__()  # as in a process that has just loaded it
    user = sdk.user(known("alice", "c"), RESOURCE)
    assert isinstance(user, AuthenticatedUser)
    with sdk.current(user):
        assert auth_context_var.get() is user
        with sdk.current(None):
            assert auth_context_var.get() is None
    assert auth_context_var.get() is None


async def test_open_paths_have_no_user_whatever_was_served_before(
    resolver: MemoryResolver,
) -> None:
    """Where reading was paused, asyncio has the next request begin in the context of the last."""

    async def says_who(scope: Scope, receive: Receive, send: Send) -> None:
        token = get_access_token()
        await JSONResponse(token.subject if token else None)(scope, receive, send)

    gate = SessionGate(says_who, resolver=resolver, resource=RESOURCE, open_paths=["/open"])
    user = _loaded_sdk().user(known("alice", "c"), RESOURCE)
    before = auth_context_var.set(user)
    try:
        transport = httpx2.ASGITransport(gate)
        async with httpx2.AsyncClient(base_url="http://x", transport=transport) as http:
            response = await http.get("/open")
    finally:
        auth_context_var.reset(before)

    assert response.json() is None


@pytest.mark.parametrize(
    ("stateless", "version", "is_sdks"),
    [(True, LEGACY, True), (False, "2026-07-28", True), (False, LEGACY, False)],
)
async def test_a_session_is_not_tied_to_the_client_that_opened_it(
    resolver: MemoryResolver, version: str, *, stateless: bool, is_sdks: bool
) -> None:
    """The SDK ties it to a user of its own class; everybody else finds the same in both."""
    users: list[object] = []

    async def note(request: Request) -> Response:
        users.append(request.user)
        return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}})

    def plain(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        return Starlette(routes=[Route("/mcp", note, methods=["POST"])])

    resolver.sessions["s"] = owner("alice")
    async with endpoint_of(plain, resolver, stateless=stateless) as endpoint:
        session = "s" if version == LEGACY else None
        response = await endpoint.post(call("x"), session=session, token="alice-1", version=version)

    assert response.status_code == 200
    (user,) = users
    assert isinstance(user, User)
    assert isinstance(user, AuthenticatedUser) is is_sdks
    assert user.principal is resolver.tokens["alice-1"]


def test_the_gate_does_not_load_the_sdk() -> None:
    script = """
import asyncio, sys
from authsvc.domain.resolution import Principal, Resolution
from mcp_adapter.gate.framework_users import Identified

async def app(scope, receive, send):
    assert scope["user"].identity == '["i", "s"]'

async def main():
    scope = {"type": "http", "headers": [], "state": {}}
    scope["state"]["resolution"] = Resolution(principal=Principal("i", "s", 1.0))
    await Identified(app, resource="https://h", stateful=True)(scope, None, None)

asyncio.run(main())
print(*{name.split(".")[0] for name in sys.modules} & {"mcp", "fastmcp"})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("token", ["", "alice-1"])
async def test_an_app_without_the_sdk_gets_users_of_the_gates_own(
    resolver: MemoryResolver, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.delitem(sys.modules, AuthenticatedUser.__module__)
    users: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        users.append(scope.get("user"))
        await JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}})(scope, receive, send)

    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/open"])
    async with httpx2.AsyncClient(
        base_url="http://x", transport=httpx2.ASGITransport(gate)
    ) as http:
        endpoint = Endpoint(http, resolver, Meeting())
        method = "tools/call" if token else "ping"
        served = await endpoint.post(request(method), token=token, version="2026-07-28")
        assert (await http.get("/open")).status_code == 200

    assert served.status_code == 200
    user, of_open_path = users
    if token:
        assert type(user) is User
        assert user.principal is resolver.tokens[token]
    else:
        assert type(user) is UnauthenticatedUser
    assert of_open_path is None
