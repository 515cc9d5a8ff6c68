"""Three ways to test it: a tool alone, an in-memory client, and the whole app over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import anyio
import pytest
from httpx2 import Response
from mcp.client import Client
from mcp.types import CallToolResult, TextContent
from server import app, mcp
from starlette.testclient import TestClient

from authsvc.client import Reason
from mcp_adapter import caller
from mcp_adapter.testing import FakeResolver, InMemoryAuthsvc, as_caller

CALL: dict[str, object] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "notes", "arguments": {}},
}
LIST: dict[str, object] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def test_what_takes_a_request() -> None:
    assert caller(as_caller("ada", scopes=["notes.read"])).has_scope("notes.read")


@pytest.mark.parametrize(("subject", "notes"), [("ada", "call Charles"), ("bob", "none")])
def test_a_tool_by_the_in_memory_client(subject: str, notes: str) -> None:
    async def call() -> CallToolResult:
        with as_caller(subject):
            async with Client(mcp) as client:
                return await client.call_tool("notes")

    assert anyio.run(call).content == [TextContent(type="text", text=notes)]


class Server:
    """The app over HTTP, in one session."""

    def __init__(self, http: TestClient) -> None:
        self.http = http
        self.session = http.post("/mcp", json=HELLO).headers["Mcp-Session-Id"]

    def call(self, token: str = "", message: dict[str, object] = CALL) -> Response:
        """Call the tool, or send another message."""
        headers = {"Mcp-Session-Id": self.session}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.post("/mcp", json=message, headers=headers)


def serving(resolver: FakeResolver | InMemoryAuthsvc) -> TestClient:
    """``with`` runs the lifespan, without which the gate is not open."""
    accept = {"Accept": "application/json, text/event-stream"}
    return TestClient(app(resolver), "http://127.0.0.1:8006", headers=accept)


def test_over_http_with_a_fake_resolver() -> None:
    resolver = FakeResolver()
    token = resolver.issue("ada", scopes=["notes.read"])
    with serving(resolver) as http:
        server = Server(http)
        assert server.call().status_code == 401
        assert "call Charles" in server.call(token).text
        assert server.call(resolver.issue("ada")).status_code == 403

        resolver.reject(token, Reason.TOKEN_REVOKED)
        assert server.call(token).status_code == 401


def test_a_list_has_what_its_caller_may_call() -> None:
    resolver = FakeResolver()
    with serving(resolver) as http:
        server = Server(http)
        for token in ("", resolver.issue("ada")):
            assert '"tools":[]' in server.call(token, LIST).text
        token = resolver.issue("ada", scopes=["notes.read"])
        assert '"name":"notes"' in server.call(token, LIST).text


@pytest.fixture
def server(in_memory_authsvc: InMemoryAuthsvc) -> Iterator[Server]:
    with serving(in_memory_authsvc) as http:
        yield Server(http)


def test_over_http_with_authsvc_in_memory(
    server: Server, in_memory_authsvc: InMemoryAuthsvc
) -> None:
    mint = partial(in_memory_authsvc.token, scopes=["notes.read"])
    ada = mint("ada")
    assert "call Charles" in server.call(ada).text
    assert server.call(mint("bob")).status_code == 404  # the session is ada's
    assert server.call(mint("ada", lifetime_seconds=-60)).status_code == 401
    assert server.call(mint("ada", aud="https://other.example/mcp")).status_code == 401

    assert server.http.portal is not None
    server.http.portal.call(in_memory_authsvc.revoke_subject, "ada")
    assert server.call(ada).status_code == 401
    assert server.call(mint("ada")).status_code == 200  # she has signed in again
