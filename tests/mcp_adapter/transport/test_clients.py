"""The official client, in both eras, against a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.mcp_adapter.harness import DEADLINE_SECONDS, LEGACY, MODERN, Endpoint

pytestmark = pytest.mark.anyio

MODES = ["legacy", "auto", MODERN]


@asynccontextmanager
async def connected(endpoint: Endpoint, mode: str, token: str = "") -> AsyncIterator[Client]:
    """The client, connected; a token is presented with every request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_SECONDS) as http:
        transport = streamable_http_client(f"{endpoint.http.base_url}/mcp", http_client=http)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with Client(transport, mode=mode) as client:
                yield client


def text(result: types.CallToolResult) -> str:
    """What the tool said."""
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_listed_and_called(endpoint: Endpoint, mode: str) -> None:
    async with connected(endpoint, mode, "alice-1") as client:
        listed = await client.list_tools()
        called = await client.call_tool("whoami")

    assert "whoami" in {tool.name for tool in listed.tools}
    assert text(called) == "alice"


@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", LEGACY), ("auto", MODERN), (MODERN, MODERN)]
)
async def test_which_revision_is_spoken(endpoint: Endpoint, mode: str, version: str) -> None:
    async with connected(endpoint, mode) as client:
        assert client.protocol_version == version
        assert bool(endpoint.resolver.sessions) == (mode == "legacy")


@pytest.mark.parametrize("mode", MODES)
async def test_progress_reaches_the_caller(endpoint: Endpoint, mode: str) -> None:
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with connected(endpoint, mode, "alice-1") as client:
        called = await client.call_tool("count", progress_callback=on_progress)

    assert text(called) == "alice"
    assert steps == [0, 1, 2]


@pytest.mark.parametrize("mode", MODES)
async def test_without_a_token_lists_pass_and_calls_do_not(endpoint: Endpoint, mode: str) -> None:
    async with connected(endpoint, mode) as client:
        assert (await client.list_tools()).tools
        with pytest.raises(MCPError) as caught:
            await client.call_tool("whoami")
        assert text(await client.call_tool("public")) == "nobody"

    assert caught.value.error.code == 401
    assert caught.value.error.message == "This request needs an access token."


async def test_leaving_ends_the_session_of_its_owner(endpoint: Endpoint) -> None:
    async with connected(endpoint, "legacy", "alice-1") as client:
        await client.call_tool("whoami")
        assert len(endpoint.resolver.sessions) == 1

    assert not endpoint.resolver.sessions
