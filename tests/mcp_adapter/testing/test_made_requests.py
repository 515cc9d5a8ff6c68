"""A made request is the current one of in-memory clients, and of nothing else."""

from __future__ import annotations

import sys

import pytest
from fastmcp import Client as FastMcpClient
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import get_access_token, get_http_request
from mcp.client import Client
from mcp.server.auth.middleware.auth_context import get_access_token as sdk_access_token
from mcp.server.mcpserver import Context, MCPServer

from mcp_adapter import caller, current_caller
from mcp_adapter.testing import as_caller

pytestmark = pytest.mark.anyio


async def test_the_in_memory_client_of_the_sdk() -> None:
    mcp = MCPServer("notes")

    @mcp.tool()
    def whoami(ctx: Context) -> str:
        token = sdk_access_token()
        assert token is not None
        return f"{caller(ctx.request_context.request).subject} {token.subject}"

    async def called() -> object:
        async with Client(mcp) as client:
            (content,) = (await client.call_tool("whoami")).content
            return getattr(content, "text", None)

    with as_caller("ada"):
        assert await called() == "ada ada"
        with as_caller("bob"):
            assert await called() == "bob bob"
        assert await called() == "ada ada"


async def test_the_in_memory_client_of_fastmcp() -> None:
    mcp = FastMCP("notes")

    @mcp.tool
    def whoami() -> str:
        token = get_access_token()
        assert token is not None
        return f"{caller(get_http_request()).subject} {token.scopes}"

    @mcp.tool(auth=require_scopes("notes.write"))
    def write() -> str:
        return "written"

    async def names() -> set[str]:
        async with FastMcpClient(mcp) as client:
            return {tool.name for tool in await client.list_tools()}

    with as_caller("ada", scopes=["notes.read"]):
        async with FastMcpClient(mcp) as client:
            assert (await client.call_tool("whoami")).data == "ada ['notes.read']"
        assert await names() == {"whoami"}
    with as_caller("ada", scopes=["notes.write"]):
        assert await names() == {"whoami", "write"}


def test_a_request_that_is_there_counts() -> None:
    bob = as_caller("bob")
    with as_caller("ada"):
        assert caller(None).subject == "ada"
        assert caller(bob).subject == "bob"
    with pytest.raises(LookupError, match="has not come through a SessionGate"):
        current_caller(None)


def test_a_request_without_a_caller_hides_that_of_a_surrounding_block() -> None:
    with as_caller("ada"), as_caller(None):
        assert current_caller(None).principal is None
        assert sdk_access_token() is None


def test_without_the_frameworks_the_request_alone_is_current(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("mcp.server.auth.middleware.bearer_auth", "fastmcp.server.http"):
        monkeypatch.delitem(sys.modules, name)
    with as_caller("ada"):
        assert caller(None).subject == "ada"
        assert sdk_access_token() is None
