"""The examples as their pages run them: processes that share one authsvc, each its own resource."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

import httpx2
import pytest

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.development import mint_token
from examples import call
from tests.examples.program import Program
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT, spawn

EXAMPLES = ROOT / "examples"
SERVERS = (
    *("official_sdk", "fastmcp_app", "plain_starlette", "own_sessions"),
    *("low_level", "rest_flask", "rest_fastapi", "tested_server", "fastapi_mounted"),
)
START_SECONDS = TIMEOUT_SECONDS


class Example(Program):
    """``python examples/.../server.py`` on a free port, beginning to start."""

    def __init__(self, name: str, authsvc: str) -> None:
        server = EXAMPLES / name / "server.py"
        super().__init__([sys.executable, "-W", "error", server], {"AUTHSVC": authsvc, "PORT": "0"})

    def url(self) -> str:
        """Where it listens, once it does."""
        return self.wait_for(r"[Rr]unning on (http://\S+)")[1]


@pytest.fixture(scope="module")
def urls(config: Path) -> Iterator[dict[str, str]]:
    """Where each example listens."""
    with ExitStack() as stack:
        authsvc = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        address = str(authsvc.wait_for("listening on", START_SECONDS)["address"])
        started = {name: Example(name, address) for name in SERVERS}
        for example in started.values():
            stack.callback(example.end)
        yield {name: example.url() for name, example in started.items()}


def resource_of(example: str) -> str:
    text = (EXAMPLES / example / "server.py").read_text()
    found = re.search(r'(?:resource|RESOURCE) ?= ?"(.+)"', text)
    assert found is not None
    return found[1]


def token(config: Path, example: str) -> str:
    """Ada's, as ``authsvc token`` would print it."""
    claims = {"sub": "ada", "aud": resource_of(example)}
    return mint_token(load(Settings, config), claims, ttl_seconds=600, now=time.time())


def called(url: str, tool: str, value: str) -> list[str]:
    """What examples/call.py prints: without a token, and with it."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        asyncio.run(call.main(f"{url}/mcp", tool, value))
    return printed.getvalue().splitlines()


NO_TOKEN = "refused: This request needs an access token."


def test_the_command_of_the_page(urls: dict[str, str], config: Path) -> None:
    arguments = (f"{urls['official_sdk']}/mcp", "whoami", token(config, "official_sdk"))
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "call.py", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.stdout.splitlines() == [NO_TOKEN, "ada: reader"]


@pytest.mark.parametrize("example", ["official_sdk", "low_level", "fastmcp_app", "plain_starlette"])
def test_a_tool_says_who_is_asking(urls: dict[str, str], config: Path, example: str) -> None:
    said = called(urls[example], "whoami", token(config, example))

    assert said == [NO_TOKEN, "ada: reader"]


@pytest.mark.parametrize("example", ["low_level", "fastmcp_app"])
def test_a_tool_needs_its_scope(urls: dict[str, str], config: Path, example: str) -> None:
    said = called(urls[example], "note", token(config, example))

    assert said == [NO_TOKEN, "refused: The token lacks a scope that this request needs."]


def test_a_gate_below_a_prefix(urls: dict[str, str], config: Path) -> None:
    url = urls["fastapi_mounted"]
    said = called(f"{url}/team", "whoami", token(config, "fastapi_mounted"))

    assert said == [NO_TOKEN, "ada: reader"]
    assert httpx2.get(f"{url}/healthz", timeout=TIMEOUT_SECONDS).json() == "alive"
    metadata = f"{url}/.well-known/oauth-protected-resource/team/mcp"
    found = httpx2.get(metadata, timeout=TIMEOUT_SECONDS).json()
    assert found["resource"] == resource_of("fastapi_mounted")


def test_a_session_of_the_servers_own(urls: dict[str, str], config: Path) -> None:
    said = called(urls["own_sessions"], "count", token(config, "own_sessions"))

    assert said == [NO_TOKEN, "ada: 1"]


def test_a_token_for_one_server_is_rejected_by_the_other(
    urls: dict[str, str], config: Path
) -> None:
    """Two servers with audiences of their own share one authsvc."""
    ours, theirs = token(config, "official_sdk"), token(config, "fastmcp_app")

    for example, value in (("official_sdk", theirs), ("fastmcp_app", ours)):
        _, refused = called(urls[example], "whoami", value)
        assert refused.startswith("refused: ")
        assert value not in refused


@pytest.mark.parametrize("example", ["rest_flask", "rest_fastapi"])
def test_a_caller_that_is_no_mcp_server(urls: dict[str, str], config: Path, example: str) -> None:
    def asked(value: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {value}"} if value else {}
        return httpx2.get(urls[example], headers=headers, timeout=TIMEOUT_SECONDS)

    none, valid, foreign = map(asked, ("", token(config, example), token(config, "official_sdk")))
    assert (none.status_code, none.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (valid.status_code, valid.text.strip('"')) == (200, "ada: reader")
    assert (foreign.status_code, foreign.json()["reason"]) == (401, "TOKEN_AUDIENCE_MISMATCH")
    assert 'error="invalid_token"' in foreign.headers["WWW-Authenticate"]


def test_the_server_that_is_tested_serves(urls: dict[str, str], config: Path) -> None:
    url, value = urls["tested_server"], token(config, "tested_server")
    (_, refused) = called(url, "notes", value)
    assert refused.startswith("refused: ")  # it lacks the scope


def test_what_needs_no_token(urls: dict[str, str]) -> None:
    assert (
        httpx2.get(f"{urls['plain_starlette']}/healthz", timeout=TIMEOUT_SECONDS).text == "alive\n"
    )
    for example in SERVERS[:5]:
        found = httpx2.get(
            f"{urls[example]}/.well-known/oauth-protected-resource/mcp", timeout=TIMEOUT_SECONDS
        )
        assert found.json()["resource"] == resource_of(example)


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/server.py")), ids=lambda path: path.parent.name
)
def test_an_example_is_short_and_has_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60
    assert (path.parent / "README.md").read_text().startswith("# ")
