"""What docs/frameworks.md says, tried: the SDK's client against each ASGI server."""

from __future__ import annotations

import itertools
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client import ClientRequestContext
from mcp.client.client import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.development import mint_token
from examples.call import Token
from tests.examples.program import Program
from tests.examples.test_pages import blocks
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT, spawn
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "examples"
FOLDER = EXAMPLES / "asgi_servers"
RESOURCE = "http://127.0.0.1:8010/mcp"
MODERN = "2026-07-28"

READY = {
    "uvicorn": r"Application startup complete",
    "gunicorn": r"ASGI server listening",
    "hypercorn": r"\[INFO\] Running on",
    "granian": r"Started worker-\d",
}
"""What each prints once a process of it serves."""


OnRequest = Callable[[httpx2.Request], Awaitable[None]]


@dataclass
class Server:
    """An ASGI server with the example's app.

    Attributes:
        program: its processes.
        url: the app's endpoint.
    """

    program: Program
    url: str


def commands() -> dict[str, list[str]]:
    """The command lines of the example's page, by server and number of processes."""
    found = {}
    for line in "\n".join(blocks(FOLDER / "README.md", "sh")).replace("\\\n", "").splitlines():
        if "server:app" in line:
            path, *options = shlex.split(line)
            name = Path(path).name
            program = str(Path(sys.executable).with_name(name))  # of the environment of the tests
            found[f"{name}-{processes_of(options)}"] = [program, *options]
    return found


def processes_of(command: list[str]) -> int:
    return int(command[command.index("--workers") + 1]) if "--workers" in command else 1


COMMANDS = commands()
NAMES = list(COMMANDS)


@pytest.fixture(scope="module")
def servers(config: Path) -> Iterator[dict[str, Server]]:
    """Each server, ready."""
    with ExitStack() as stack:
        authsvc = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        address = str(authsvc.wait_for("listening on", TIMEOUT_SECONDS)["address"])
        environment = {"AUTHSVC": address, "REQUEST_STATE_KEY": token_hex(32), "COLUMNS": "200"}
        started = {}
        for name, command in COMMANDS.items():
            port = free_port()
            arguments = [word.replace("8010", str(port)) for word in command]
            program = Program(arguments, environment, FOLDER)
            stack.callback(program.end)
            started[name] = Server(program, f"http://127.0.0.1:{port}/mcp")
        for name, server in started.items():
            server.program.wait_for(READY[name.partition("-")[0]], processes_of(COMMANDS[name]))
        yield started


def token_of(config: Path, *roles: str) -> str:
    """Ada's, with these roles."""
    claims = {"sub": "ada", "aud": RESOURCE, "roles": list(roles)}
    return mint_token(load(Settings, config), claims, ttl_seconds=600, now=time.time())


@asynccontextmanager
async def client_of(
    url: str,
    mode: str,
    token: Token,
    on_request: OnRequest | None = None,
    answer: ElicitationFnT | None = None,
) -> AsyncIterator[tuple[Client, list[int]]]:
    """A client of the SDK's, and the statuses that it is answered."""
    statuses: list[int] = []

    async def note(response: httpx2.Response) -> None:
        statuses.append(response.status_code)

    async with (
        httpx2.AsyncClient(
            auth=token,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            event_hooks={"request": [on_request] if on_request else [], "response": [note]},
        ) as http,
        Client(
            streamable_http_client(url, http_client=http), mode=mode, elicitation_callback=answer
        ) as client,
    ):
        yield client, statuses


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["legacy", MODERN])
@pytest.mark.parametrize("name", NAMES)
async def test_a_server_serves(
    servers: dict[str, Server], config: Path, name: str, mode: str
) -> None:
    token = Token()
    reported: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        reported.append(progress)

    with anyio.fail_after(TIMEOUT_SECONDS):
        async with client_of(servers[name].url, mode, token) as (client, statuses):
            with pytest.raises(Exception, match="needs an access token"):
                await client.call_tool("whoami")
            assert statuses[-1] == 401
            said = []
            for roles in (["reader"], ["writer", "editor"]):
                token.value = token_of(config, *roles)
                result = await client.call_tool("whoami", progress_callback=on_progress)
                said.append(text_of(result))
    assert said == ["ada: reader", "ada: writer, editor"]
    assert reported == [1, 1]


@pytest.mark.parametrize("name", NAMES)
async def test_another_host_is_not_served(servers: dict[str, Server], name: str) -> None:
    url = servers[name].url
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        answer = await http.post(url, json={}, headers={"Host": "evil.example"})
    assert answer.status_code == 421


@pytest.mark.parametrize(("mode", "tool"), [("legacy", "whoami"), (MODERN, "order")])
async def test_each_request_goes_to_another_server(
    servers: dict[str, Server], config: Path, mode: str, tool: str
) -> None:
    """The gate keeps no state, and a request state is opened by each process with the key."""
    token = Token()
    token.value = token_of(config, "reader")
    ports = itertools.cycle(urlsplit(server.url).port for server in servers.values())
    asked: list[int | None] = []

    async def to_the_next(request: httpx2.Request) -> None:
        request.url = request.url.copy_with(port=next(ports))
        asked.append(request.url.port)

    async def choose(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"size": "L"})

    with anyio.fail_after(TIMEOUT_SECONDS):
        async with client_of(servers[NAMES[0]].url, mode, token, to_the_next, choose) as (
            client,
            statuses,
        ):
            said = text_of(await client.call_tool(tool))

    assert said.startswith("ada: reader" if tool == "whoami" else "L in process ")
    assert len(set(asked)) > 1
    assert 401 not in statuses


async def test_sigterm_ends_a_server_that_streams(servers: dict[str, Server], config: Path) -> None:
    """The last test: it ends the servers."""
    token = token_of(config, "reader")
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        with anyio.fail_after(TIMEOUT_SECONDS):
            async with anyio.create_task_group() as group:
                for server in servers.values():
                    group.start_soon(end_streaming, http, server, token)


async def end_streaming(http: httpx2.AsyncClient, server: Server, token: str) -> None:
    """End a server while a client of it listens."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscriptions/listen",
        "params": {
            "notifications": {"toolsListChanged": True},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "subscriptions/listen",
    }
    async with http.stream("POST", server.url, json=body, headers=headers) as response:
        assert response.status_code == 200
        assert await anext(response.aiter_text())  # while the response goes on
        code = await anyio.to_thread.run_sync(server.program.end)
    assert code in {0, -signal.SIGTERM}  # uvicorn ends as by the signal
