"""docs/protect-your-server.md from its wheel to its last answer: files, commands, server and calls
as they stand on the page."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.running import running as running_authsvc
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import environment
from tests.support.snippets import Block, blocks_of

BLOCKS = blocks_of("docs/protect-your-server.md")
AUTHSVC, SERVER = "127.0.0.1:50051", "http://127.0.0.1:8000"


def block(language: str, has: str) -> Block:
    """The first block of the page with a text in it."""
    return next(it for it in BLOCKS if it.language == language and has in it.text)


async def shell(script: str, folder: Path) -> str:
    """What a script prints, with the programs on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with anyio.fail_after(TIMEOUT_SECONDS):
        done = await anyio.run_process(
            ["/bin/bash", "-e", "-u", "-c", script], cwd=folder, env=environment({"PATH": path})
        )
    return done.stdout.decode()


@pytest.mark.anyio
async def test_a_server_of_the_page_answers_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_secret, serve = block("sh", "openssl rand").text.splitlines()
    assert serve == "authsvc serve --config authsvc.toml"
    await shell(make_secret, tmp_path)
    config = tmp_path / "authsvc.toml"
    config.write_text(block("toml", "[development]").text.replace(AUTHSVC, "127.0.0.1:0"))

    async with running_authsvc(load(Settings, config)) as address:
        page: dict[str, Any] = {"mcp": MCPServer("page")}
        for it in (block("python", "@mcp.tool()"), block("python", "streamable_http_app")):
            text = it.text.replace(AUTHSVC, address)
            text = text.replace("https://mcp.example.com", SERVER)
            exec(text, page)  # noqa: S102 - the page's own code
        async with running(page["app"]) as url:
            calls = block("sh", "curl --include").text.replace(SERVER + "/mcp ", url + "/mcp ")
            begin, call = re.split(r"(?<=}}}')\n", calls, maxsplit=1)
            answer = await shell(begin, tmp_path)
            (session,) = re.findall(r"^mcp-session-id: (\S+)", answer, re.MULTILINE | re.IGNORECASE)
            said = await shell(f"{begin.splitlines()[0]}\n{call}".replace("ID", session), tmp_path)
    assert '"text":"ada"' in said
