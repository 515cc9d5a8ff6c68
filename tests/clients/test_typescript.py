"""The TypeScript SDK: both generations of it, and both eras of the protocol."""

from __future__ import annotations

import anyio
import httpx2
import pytest

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, MODERN, OF_ANALYST, Stack
from tests.support.node import run_node

pytestmark = pytest.mark.anyio


async def ping(stack: Stack, session: str) -> httpx2.Response:
    """Ask whether a session is still there."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = "application/json, text/event-stream"
    async with httpx2.AsyncClient(timeout=DEADLINE_SECONDS) as http:
        headers = {"Accept": accept, "Mcp-Session-Id": session}
        return await http.post(stack.url, json=message, headers=headers)


@pytest.mark.parametrize(
    ("sdk", "mode", "has_session"),
    [("v1", "legacy", True), ("v2", "legacy", True), ("v2", "auto", False), ("v2", MODERN, False)],
)
async def test_it_refreshes_and_switches_role(
    stack: Stack, sdk: str, mode: str, has_session: bool
) -> None:
    tokens = [stack.token("reader"), stack.token("analyst")]
    with anyio.fail_after(DEADLINE_SECONDS):
        answer = await run_node("typescript.mjs", sdk, mode, stack.url, *tokens)

    assert "discover_buckets" in answer["tools"]
    assert "This request needs an access token." in answer["refusal"]
    assert answer["buckets"] == [BUCKETS, OF_ANALYST]
    assert answer["keys"] == KEYS
    assert bool(answer["session"]) == has_session
    if has_session:
        shown = answer["session"][:8]
        stack.authsvc.wait_for(f"Session {shown}… updated with new JWT", DEADLINE_SECONDS)
        # It has ended its session on the way out.
        assert (await ping(stack, answer["session"])).status_code == 404
