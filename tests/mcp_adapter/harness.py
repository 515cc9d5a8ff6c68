"""An in-process resolver, a small MCP server, and a real HTTP server to put them behind."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.types import ASGIApp

from authsvc.domain.errors import Reason
from authsvc.domain.resolution import Principal, Resolution
from authsvc.http_auth.requirements import RequirementOf
from mcp_adapter import Requirement, SessionGate, default_requirement
from mcp_adapter.server.app import build_app
from mcp_adapter.server.config import Settings
from mcp_adapter.testing import FakeResolver
from tests.support.bounds import TIMEOUT_SECONDS

RESOURCE = "https://mcp.example/mcp"
ISSUER = "https://idp.example"
METADATA_URL = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
SCOPES = ("things.read", "things.write")
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
DEADLINE_SECONDS = TIMEOUT_SECONDS


def principal(subject: str, *scopes: str) -> Principal:
    """Somebody whom a test knows."""
    return Principal(ISSUER, subject, expire_time=2e9, scopes=scopes or SCOPES)


def owner(subject: str) -> tuple[str, str]:
    """Whose session it is, as ``FakeResolver.sessions`` has it."""
    return ISSUER, subject


class MemoryResolver(FakeResolver):
    """A fake resolver that keeps a record of its calls, all for one resource.

    Attributes:
        calls: operation, session id and token of each.
    """

    def __init__(
        self,
        tokens: Mapping[str, Principal] | None = None,
        *,
        rejected: Mapping[str, Reason] | None = None,
        sessions: Mapping[str, tuple[str, str] | None] | None = None,
        resource: str = RESOURCE,
    ) -> None:
        super().__init__()
        self._times_open = 1  # the gates of most tests run without a lifespan
        self._expected_resource = resource
        self.tokens |= tokens or {}
        self.rejected |= rejected or {}
        self.sessions |= sessions or {}
        self.calls: list[tuple[str, str, str]] = []

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        **counts: Any,  # noqa: ANN401 - whatever the fake takes
    ) -> Resolution:
        """See ``Resolver.resolve``."""
        self._record("resolve", session_id, token, resource)
        return await super().resolve(session_id, token, resource=resource, create=create, **counts)

    async def create(self, token: str, *, resource: str, **counts: Any) -> Resolution:  # noqa: ANN401 - as above
        """See ``Resolver.create``."""
        self._record("create", "", token, resource)
        return await super().create(token, resource=resource, **counts)

    async def revoke(self, session_id: str) -> None:
        """See ``Resolver.revoke``."""
        self._record("revoke", session_id, "", self._expected_resource)
        await super().revoke(session_id)

    async def ready(self) -> None:
        """Raise the error of its calls."""
        if self.error is not None:
            raise self.error

    def _record(self, method: str, session_id: str, token: str, resource: str) -> None:
        self.calls.append((method, session_id, token))
        assert resource == self._expected_resource


class Meeting:
    """Holds tool calls until as many have begun as a test wants at once.

    Attributes:
        expected: how many; 0 holds none.
        arrived: how many have begun.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.arrived = 0
        self._complete = anyio.Event()

    async def join(self) -> None:
        """Wait for the others."""
        self.arrived += 1
        if self.arrived >= self.expected:
            self._complete.set()
        await self._complete.wait()


def demo_server(meeting: Meeting) -> Server[Any]:
    """Tools that return the caller, report progress, and fail."""

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        names = ("whoami", "meet", "count", "break", "refuse", "headers", "write", "public")
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in names]
        )

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        match params.name:
            case "meet":
                await meeting.join()
                assert ctx.request is not None
                return _text(*ctx.request.state.resolution.principal.roles)
            case "count":
                await meeting.join()
                for step in range(3):
                    await ctx.session.report_progress(step, 3, f"step {step}")
            case "hold":
                await ctx.session.report_progress(1, 2, "begun")
                await meeting.join()
            case "break":
                raise RuntimeError("a secret of the server")
            case "refuse":
                raise MCPError(code=types.INVALID_PARAMS, message="not like that")
            case "headers":
                assert ctx.request is not None
                return _text(" ".join(ctx.request.headers))
        assert ctx.request is not None
        who = ctx.request.state.resolution.principal
        return _text(who.subject if who else "nobody")

    return Server("demo", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _text(*texts: str) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text) for text in texts]
    )


def demo_requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """``public`` is open, ``write`` needs a further scope, the rest is as by default."""
    match method, params:
        case "tools/call", {"name": "public"}:
            return None
        case "tools/call", {"name": "write"}:
            return Requirement(SCOPES)
        case "tools/call", _:
            return Requirement(SCOPES[:1])
    return default_requirement(method, params)


def settings(**changes: object) -> Settings:
    """Settings as a file would give them."""
    values: dict[str, Any] = {"resource": RESOURCE, "authorization_servers": (ISSUER,), **changes}
    return Settings(**values)


def demo_app(resolver: MemoryResolver, meeting: Meeting, **changes: object) -> Starlette:
    """The reference server around the demo server."""
    return build_app(
        settings(**changes),
        demo_server(meeting),
        resolver=resolver,
        ready=resolver.ready,
        requirement=demo_requirement,
        scopes=SCOPES,
    )


@asynccontextmanager
async def running(app: ASGIApp, *, root_path: str = "") -> AsyncIterator[str]:
    """The app on a real HTTP server, as with ``--root-path``; yields its base URL."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", ws="none", root_path=root_path
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await server.startup(sockets=[listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Not server.shutdown(), which sleeps; nor wait_closed(), which waits for clients that
            # keep their connections: those end here.
            for listening in server.servers:
                listening.close()
            for connection in list(server.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await server.lifespan.shutdown()


@dataclass
class Endpoint:
    """Speaks to one MCP endpoint over raw HTTP.

    Attributes:
        http: a client whose base URL is the server's.
        resolver: the one behind that server.
        meeting: of its tool calls.
    """

    http: httpx2.AsyncClient
    resolver: MemoryResolver
    meeting: Meeting

    async def post(
        self,
        body: object,
        *,
        session: str | None = None,
        token: str | None = None,
        version: str | None = LEGACY,
        path: str = "/mcp",
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """POST a message as a client of ``version`` would."""
        given: dict[str, str | None] = {
            "Accept": "application/json, text/event-stream",
            "Mcp-Session-Id": session,
            "Authorization": f"Bearer {token}" if token is not None else None,
            "MCP-Protocol-Version": version,
            **(headers or {}),
        }
        sent = {name: value for name, value in given.items() if value is not None}
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
            return await self.http.post(path, content=body, headers=sent)
        return await self.http.post(path, json=body, headers=sent)

    async def open(self, token: str | None = None) -> str:
        """Initialise; the session id."""
        response = await self.post(initialize(), token=token, version=None)
        assert response.status_code == 200, response.text
        return response.headers["mcp-session-id"]

    async def modern(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        session: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """POST a request as a client of 2026-07-28 would."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        sent = {"Mcp-Method": method}
        if params and "name" in params:
            sent["Mcp-Name"] = params["name"]
        sent |= headers or {}
        body = request(method, {**(params or {}), "_meta": meta})
        return await self.post(body, session=session, token=token, version=MODERN, headers=sent)


@asynccontextmanager
async def endpoint_of(
    make: Callable[..., ASGIApp],
    resolver: MemoryResolver,
    *,
    stateless: bool,
    streams: bool = False,
    requirement: RequirementOf = default_requirement,
    filter_lists: bool = False,
) -> AsyncIterator[Endpoint]:
    """An app of a framework's behind the gate, as its users put it there, over real HTTP."""
    meeting = Meeting()
    app = SessionGate(
        make(meeting, stateless=stateless),
        resolver=resolver,
        resource=RESOURCE,
        authorization_servers=[ISSUER],
        requirement=requirement,
        stateful=not stateless,
        streams=streams,
        filter_lists=filter_lists,
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)


def message_of(response: httpx2.Response) -> Mapping[str, Any]:
    """The JSON-RPC answer, whether it came alone or as an event."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("application/json"):
        text = response.text
    else:
        (text,) = (line[5:] for line in response.text.splitlines() if line.startswith("data: {"))
    message = json.loads(text)
    assert isinstance(message, dict)
    return message


async def opened(endpoint: Endpoint, token: str | None = None) -> str:
    """Connect as a client does; the session's id."""
    session = await endpoint.open(token)
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await endpoint.post(done, session=session)).status_code == 202
    return session


def request(
    method: str, params: Mapping[str, Any] | None = None, request_id: int | str = 7
) -> dict[str, Any]:
    """A JSON-RPC request."""
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return message if params is None else {**message, "params": params}


def initialize(version: str = LEGACY) -> dict[str, Any]:
    """The request that begins a session."""
    client = {"name": "test", "version": "1"}
    return request(
        "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    )


def call(tool: str, request_id: int | str = 7, **params: object) -> dict[str, Any]:
    """A tool call."""
    return request("tools/call", {"name": tool, "arguments": {}, **params}, request_id)


def said(response: httpx2.Response) -> str:
    """What the tool answered in a JSON response."""
    assert response.status_code == 200, response.text
    return str(response.json()["result"]["content"][0]["text"])


def bare(response: httpx2.Response) -> Mapping[str, str]:
    """A response's headers, without those that the HTTP server adds for itself."""
    return {name: value for name, value in response.headers.items() if name != "date"}


def revoke(endpoint: Endpoint, session: str) -> str:
    """Revoke alice's first token; the reason that she gets."""
    del endpoint.resolver.tokens["alice-1"]
    endpoint.resolver.rejected["alice-1"] = Reason.TOKEN_REVOKED
    return "TOKEN_REVOKED"


def expire(endpoint: Endpoint, session: str) -> str:
    """Have alice's first token expire; the reason that she gets."""
    del endpoint.resolver.tokens["alice-1"]
    endpoint.resolver.rejected["alice-1"] = Reason.TOKEN_EXPIRED
    return "TOKEN_EXPIRED"


def end_session(endpoint: Endpoint, session: str) -> str:
    """End a session; the reason that its owner gets."""
    del endpoint.resolver.sessions[session]
    return "SESSION_NOT_FOUND"
