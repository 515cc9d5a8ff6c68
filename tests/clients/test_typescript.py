"""The TypeScript SDK: both generations of it, and both eras of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, MODERN, OF_ANALYST, Stack
from tests.support.node import run_node
from tests.support.processes import spawn
from tests.support.stack import START_SECONDS
from tests.support.valkey import free_port

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


@pytest.fixture(scope="module")
def filtering(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica of the MCP endpoint with ``filter_lists``; its URL."""
    address = f"127.0.0.1:{free_port()}"
    lines = stack.adapter_config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("listen = ")]
    config: Path = tmp_path_factory.mktemp("filtering") / "adapter.toml"
    config.write_text("\n".join([f'listen = "{address}"', "filter_lists = true", *kept]))
    with spawn("mcp_adapter", "serve", "--config", str(config)) as adapter:
        adapter.wait_for("listening on", START_SECONDS)
        yield f"http://{address}/mcp"


@pytest.mark.parametrize(
    ("sdk", "mode"), [("v1", "legacy"), ("v2", "legacy"), ("v2", "auto"), ("v2", MODERN)]
)
async def test_it_lists_what_each_token_may_call(
    stack: Stack, filtering: str, sdk: str, mode: str
) -> None:
    narrow = stack.token(scope="buckets.read")
    with anyio.fail_after(DEADLINE_SECONDS):
        answer = await run_node("lists.mjs", sdk, mode, filtering, narrow, stack.token())

    without, of_narrow, of_broad = answer["tools"]
    assert without == []
    assert of_narrow == ["discover_buckets", "whoami"]
    assert {"bucket_objects_list", *of_narrow} < {*of_broad}
    assert [page["cacheScope"] for page in answer["pages"]] == [
        *(["private"] * 3 if mode in {"auto", MODERN} else [None] * 3)
    ]
