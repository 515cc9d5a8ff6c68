"""What docs/frameworks.md says of frameworks: each cell of its table, by the SDK's client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as types
import pytest
from fastapi import FastAPI
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from fastmcp.server.sessions import UserSession
from key_value.aio.stores.memory import MemoryStore
from mcp.client import ClientRequestContext
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve, Sample
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    SubscriptionBus,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from starlette.applications import Starlette

from authsvc.http_auth.requirements import required
from mcp_adapter import Requirement, SessionGate, caller
from mcp_adapter.fastmcp import requirement_of
from mcp_adapter.testing import FakeResolver
from tests.examples.test_pages import blocks
from tests.mcp_adapter.harness import DEADLINE_SECONDS, ISSUER, RESOURCE, running
from tests.support.processes import ROOT

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

MODERN = "2026-07-28"
TABLE = "What works"

Security = RequestStateSecurity | None


class Size(BaseModel):
    """What the user is asked for."""

    size: str


FORM = types.ElicitRequestFormParams(
    message="Which size?", requested_schema=Size.model_json_schema()
)
PROMPT = [
    types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Which size?"))
]
QUESTIONS: dict[str, types.ElicitRequest | types.CreateMessageRequest] = {
    "elicit": types.ElicitRequest(params=FORM),
    "sample": types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=PROMPT, max_tokens=10)
    ),
}


def size_of(answer: object) -> str:
    """What the user, or the client's model, has answered."""
    if isinstance(answer, types.ElicitResult):
        return Size.model_validate(answer.content).size
    assert isinstance(answer, types.CreateMessageResult)
    assert isinstance(answer.content, types.TextContent)
    return answer.content.text


# The apps: one tool for each row of the table.


async def ask_user() -> Elicit[Size]:
    return Elicit(FORM.message, Size)


async def ask_model() -> Sample:
    return Sample(PROMPT, max_tokens=10)


def high_level(
    *, stateless: bool, security: Security = None, bus: SubscriptionBus | None = None
) -> Starlette:
    """MCPServer: questions are dependencies of a tool."""
    mcp = MCPServer("tried", request_state_security=security, subscriptions=bus)

    @mcp.tool()
    async def whoami(ctx: Context) -> str:
        return caller(ctx.request_context.request).subject

    @mcp.tool()
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    @mcp.tool()
    async def elicit(size: Annotated[Size, Resolve(ask_user)]) -> str:
        return size.size

    @mcp.tool()
    async def sample(answer: Annotated[types.CreateMessageResult, Resolve(ask_model)]) -> str:
        return size_of(answer)

    @mcp.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        await ctx.session.send_tool_list_changed()
        return "changed"

    return mcp.streamable_http_app(stateless_http=stateless)


async def sampled(
    session: ServerSession, request_id: types.RequestId | None
) -> types.CreateMessageResult:
    """What the client's model answers in revisions with sessions, by the stream of the call."""
    return await session.create_message(PROMPT, max_tokens=10, related_request_id=request_id)


def low_level(*, stateless: bool, security: Security = None) -> Starlette:
    """The low-level server: questions are requests of the session, or results of a tool."""
    bus = InMemorySubscriptionBus()

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        names = ("whoami", "work", "elicit", "sample", "change")
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in names]
        )

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        text = "done"
        if params.name == "whoami":
            text = caller(ctx.request).subject
        elif params.name == "work":
            await ctx.session.report_progress(1, 2)
        elif params.name == "change":
            await bus.publish(ToolsListChanged())
            await ctx.session.send_tool_list_changed()
        elif ctx.protocol_version != MODERN and params.name == "elicit":
            # By its stream: without the id it is sent on that of GET.
            form = (FORM.message, FORM.requested_schema, ctx.request_id)
            text = size_of(await ctx.session.elicit_form(*form))
        elif ctx.protocol_version != MODERN:
            text = size_of(await sampled(ctx.session, ctx.request_id))
        elif params.input_responses is None:
            question = QUESTIONS[params.name]
            return types.InputRequiredResult(input_requests={"q": question}, request_state="asked")
        else:
            assert params.request_state == "asked"
            text = size_of(params.input_responses["q"])
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    server = Server(
        "tried",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(bus),
    )
    if security is not None:
        server.middleware.append(RequestStateBoundary(security, default_audience="tried"))
    return server.streamable_http_app(stateless_http=stateless)


def asked(ctx: FastContext, question: str) -> str | types.InputRequiredResult:
    """The question as a result of a tool, and then what its answer says (2026-07-28)."""
    if ctx.input_responses is None:
        return types.InputRequiredResult(
            input_requests={"q": QUESTIONS[question]}, request_state="asked"
        )
    assert ctx.request_state == "asked"
    return size_of(ctx.input_responses["q"])


def fastmcp(
    *, stateless: bool, security: Security = None, store: MemoryStore | None = None
) -> Starlette:
    """FastMCP: questions are asked by the context, or results of a tool."""
    mcp = FastMCP("tried", request_state_security=security, session_state_store=store)

    @mcp.tool
    async def whoami() -> str:
        return caller(get_http_request()).subject

    @mcp.tool
    async def work(ctx: FastContext) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    @mcp.tool
    async def elicit(ctx: FastContext) -> str | types.InputRequiredResult:
        if ctx.session.protocol_version == MODERN:
            return asked(ctx, "elicit")
        answer = await ctx.elicit(FORM.message, Size)
        assert answer.action == "accept"
        return answer.data.size

    @mcp.tool
    async def sample(ctx: FastContext) -> str | types.InputRequiredResult:
        if ctx.session.protocol_version == MODERN:
            return asked(ctx, "sample")
        return size_of(await sampled(ctx.session, ctx.request_id))

    @mcp.tool
    async def change(ctx: FastContext) -> str:
        await ctx.session.send_tool_list_changed()
        return "changed"

    @mcp.tool
    async def keep(session: UserSession) -> str:
        before = await session.get("value", "nothing")
        await session.set("value", "kept")
        return str(before)

    return mcp.http_app(stateless_http=stateless)


FRAMEWORKS: dict[str, Callable[..., Starlette]] = {
    "MCPServer": high_level,
    "Server": low_level,
    "FastMCP": fastmcp,
}


# The client.


@dataclass
class Tried:
    """A client of one app, or of several in turn.

    Attributes:
        client: of the SDK.
        ports: of the apps. Each request goes to the first.
        statuses: that it was answered.
        opened: what GET was answered, once it was.
        changed: a notification outside of calls has come.
    """

    client: Client
    ports: deque[int]
    statuses: list[int]
    opened: asyncio.Future[int]
    changed: anyio.Event


@asynccontextmanager
async def tried(
    *apps: Starlette, mode: str, stateless: bool = True, in_turn: bool = True
) -> AsyncIterator[Tried]:
    """A client of these apps behind their gates; in turn, or of the first until it is rotated."""
    resolver = FakeResolver()
    headers = {"Authorization": f"Bearer {resolver.issue('ada')}"}
    ports: deque[int] = deque()
    statuses: list[int] = []
    opened = asyncio.get_running_loop().create_future()
    changed = anyio.Event()

    async def send(request: httpx2.Request) -> None:
        request.url = request.url.copy_with(port=ports[0])
        if in_turn:
            ports.rotate()

    async def note(response: httpx2.Response) -> None:
        statuses.append(response.status_code)
        if response.request.method == "GET" and not opened.done():
            opened.set_result(response.status_code)

    async def handle(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    with anyio.fail_after(DEADLINE_SECONDS):
        async with AsyncExitStack() as stack:
            for app in apps:
                gate = SessionGate(
                    app,
                    resolver=resolver,
                    resource=RESOURCE,
                    stateful=not stateless,
                    streams=not stateless,
                )
                url = await stack.enter_async_context(running(gate))
                ports.append(urlsplit(url).port or 0)
            http = await stack.enter_async_context(
                httpx2.AsyncClient(
                    headers=headers,
                    timeout=DEADLINE_SECONDS,
                    event_hooks={"request": [send], "response": [note]},
                )
            )
            client = Client(
                streamable_http_client(f"{url}/mcp", http_client=http),
                mode=mode,
                elicitation_callback=choose,
                sampling_callback=generate,
                message_handler=handle,
            )
            await stack.enter_async_context(client)
            yield Tried(client, ports, statuses, opened, changed)


async def choose(
    context: ClientRequestContext, params: types.ElicitRequestParams
) -> types.ElicitResult:
    """The user."""
    return types.ElicitResult(action="accept", content={"size": "L"})


async def generate(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    """The client's model."""
    content = types.TextContent(type="text", text="L")
    return types.CreateMessageResult(role="assistant", content=content, model="m")


async def answer_of(it: Tried, tool: str) -> str:
    """The text that a tool returns; empty where it fails for want of a way to ask."""
    try:
        result = await it.client.call_tool(tool)
    except MCPError as error:
        text = error.error.message
    else:
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        if not result.is_error:
            return content.text
        text = content.text
    assert "no back-channel" in text
    return ""


# The table.


async def tools(it: Tried) -> bool:
    return await answer_of(it, "whoami") == "ada"


async def progress(it: Tried) -> bool:
    reported: list[float] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        reported.append(progress)

    await it.client.call_tool("work", progress_callback=report)
    return reported == [1]


async def elicitation(it: Tried) -> bool:
    return await answer_of(it, "elicit") == "L"


async def sampling(it: Tried) -> bool:
    return await answer_of(it, "sample") == "L"


async def changes(it: Tried) -> bool:
    """Whether the client hears of a change outside of its calls."""
    if it.client.protocol_version == MODERN:
        return await listened(it)
    if await it.opened == 405:
        return False
    await it.client.call_tool("change")
    await it.changed.wait()
    return True


async def listened(it: Tried) -> bool:
    try:
        async with it.client.listen(tools_list_changed=True) as changes:
            await it.client.call_tool("change")
            return isinstance(await anext(aiter(changes)), ToolsListChanged)
    except MCPError as error:
        if error.error.code != types.METHOD_NOT_FOUND:
            raise
        return False


FEATURES = {
    "tools": tools,
    "progress": progress,
    "elicitation": elicitation,
    "sampling": sampling,
    "changes outside of calls": changes,
}
COLUMNS = {
    "2025-11-25, stateless": ("legacy", [True]),
    "2025-11-25, stateful": ("legacy", [False]),
    "2026-07-28": (MODERN, [True, False]),
}
PAGE = ROOT / "docs" / "frameworks.md"


def rows_of(heading: str) -> list[dict[str, str]]:
    """The first table below a heading of the page, by column."""
    section = (
        PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    )
    table = next(part for part in section.strip().split("\n\n") if part.startswith("|"))
    names, _, *rows = [line.strip("|").split("|") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row] for row in (names, *rows)]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def test_the_page_has_what_is_tried() -> None:
    assert [row[""] for row in rows_of(TABLE)] == list(FEATURES)
    assert list(rows_of(TABLE)[0]) == ["", *COLUMNS]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_what_works_is_what_the_page_says(framework: str, column: str) -> None:
    mode, ways = COLUMNS[column]
    cells = {row[""]: row[column] for row in rows_of(TABLE)}
    said = {
        name: cell.startswith("yes") and f"not {framework}" not in cell
        for name, cell in cells.items()
    }
    for stateless in ways:
        app = FRAMEWORKS[framework](stateless=stateless)
        async with tried(app, mode=mode, stateless=stateless) as it:
            works = {name: await feature(it) for name, feature in FEATURES.items()}
        assert works == said


# Below a prefix of a FastAPI app.


@pytest.mark.parametrize("mode", ["legacy", MODERN])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_fastapi_mounts_each_of_them(framework: str, mode: str) -> None:
    inner = FRAMEWORKS[framework](stateless=True)
    resolver = FakeResolver()
    resource = RESOURCE.removesuffix("/mcp") + "/team/mcp"
    gate = SessionGate(inner, resolver=resolver, resource=resource, authorization_servers=[ISSUER])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gate.running(), inner.router.lifespan_context(inner):
            yield

    app = FastAPI(routes=gate.metadata_routes(), lifespan=lifespan)
    app.mount("/team", gate)
    headers = {"Authorization": f"Bearer {resolver.issue('ada')}"}
    with anyio.fail_after(DEADLINE_SECONDS):
        async with (
            running(app) as url,
            httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http,
            Client(
                streamable_http_client(f"{url}/team/mcp", http_client=http), mode=mode
            ) as client,
        ):
            (content,) = (await client.call_tool("whoami")).content
    assert isinstance(content, types.TextContent)
    assert content.text == "ada"


# Several processes. Here they are several apps, each with what it keeps in memory.


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_request_state_is_opened_by_whoever_has_the_key(framework: str) -> None:
    security = RequestStateSecurity(keys=[token_hex(32)])
    apps = [FRAMEWORKS[framework](stateless=True, security=security) for _ in range(2)]
    async with tried(*apps, mode=MODERN) as it:
        assert await answer_of(it, "elicit") == "L"


@pytest.mark.parametrize("framework", ["MCPServer", "FastMCP"])
async def test_without_a_key_each_process_has_its_own(framework: str) -> None:
    apps = [FRAMEWORKS[framework](stateless=True) for _ in range(2)]
    async with tried(*apps, mode=MODERN) as it:
        with pytest.raises(MCPError) as rejected:
            await it.client.call_tool("elicit")
    assert rejected.value.error.data == {"reason": "invalid_request_state"}


@pytest.mark.parametrize("sealed", [False, True])
async def test_the_low_level_server_seals_nothing_of_itself(*, sealed: bool) -> None:
    app = low_level(stateless=True, security=RequestStateSecurity.ephemeral() if sealed else None)
    async with tried(app, mode=MODERN) as it:
        result = await it.client.session.call_tool("elicit", allow_input_required=True)
    assert isinstance(result, types.InputRequiredResult)
    assert (result.request_state == "asked") is not sealed


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_session_of_the_apps_is_in_one_process(framework: str) -> None:
    apps = [FRAMEWORKS[framework](stateless=False) for _ in range(2)]
    async with tried(*apps, mode="legacy", stateless=False, in_turn=False) as it:
        assert await answer_of(it, "whoami") == "ada"
        it.ports.rotate()
        with pytest.raises(MCPError):
            await it.client.call_tool("whoami")
        assert 404 in it.statuses
        it.ports.rotate()


async def test_a_bus_of_ones_own_carries_changes_between_processes() -> None:
    bus = InMemorySubscriptionBus()
    apps = [high_level(stateless=True, bus=bus) for _ in range(2)]
    async with (
        tried(*apps, mode=MODERN, in_turn=False) as it,
        it.client.listen(tools_list_changed=True) as changes,
    ):
        it.ports.rotate()
        await it.client.call_tool("change")
        assert isinstance(await anext(aiter(changes)), ToolsListChanged)


@pytest.mark.parametrize("shared", [True, False])
async def test_user_sessions_of_fastmcp_are_in_its_store(*, shared: bool) -> None:
    store = MemoryStore() if shared else None
    apps = [fastmcp(stateless=True, store=store) for _ in range(2)]
    async with tried(*apps, mode=MODERN, in_turn=False) as it:
        before = await answer_of(it, "keep")
        it.ports.rotate()
        after = await answer_of(it, "keep")
    assert (before, after) == ("nothing", "kept" if shared else "nothing")


# What the page shows.


def page_block(part: str) -> dict[str, Any]:
    """The names of the one block of Python of the page that has this text."""
    (block,) = (text for text in blocks(PAGE, "python") if part in text)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - the page's own code
    return names


@pytest.mark.parametrize(
    ("params", "scopes"),
    [
        ({"name": "publish"}, ("docs.write", "docs.publish")),
        ({"name": "other"}, ()),
        ({"name": ["publish"]}, ()),
        ({}, ()),
    ],
)
def test_the_table_of_scopes_of_the_page(params: dict[str, Any], scopes: tuple[str, ...]) -> None:
    requirement = page_block("SCOPES")["requirement"]
    assert required(requirement, "tools/call", params) == Requirement(scopes)
    assert required(requirement, "tools/list", {}) is None


def test_the_scopes_of_fastmcp_on_the_page() -> None:
    page = page_block("notes.write")
    needed = requirement_of(page["mcp"])("tools/call", {"name": "note"})
    assert needed == Requirement(("notes.write",))
    assert isinstance(page["app"], SessionGate)


def test_the_boundary_of_the_page() -> None:
    server = page_block("RequestStateBoundary")["server"]
    assert isinstance(server.middleware[-1], RequestStateBoundary)
