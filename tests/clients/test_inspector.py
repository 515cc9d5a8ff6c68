"""MCP Inspector's command line, in both eras of the protocol."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, Stack
from tests.support.node import NODE, installed

pytestmark = pytest.mark.anyio

LAUNCHER = "clients/launcher/build/index.js"
AUTH_REQUIRED = 3
"""Its exit code when a server wants a login."""


@dataclass(frozen=True)
class Inspector:
    """The program, with a home of its own."""

    home: Path
    url: str
    era: str

    async def __call__(self, method: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        launcher = installed("@modelcontextprotocol/inspector") / LAUNCHER
        command = [NODE, str(launcher), "--cli", self.url, "--transport", "http"]
        how = ["--protocol-era", self.era, "--format", "json", "--stored-auth-only"]
        with anyio.fail_after(DEADLINE_SECONDS):
            return await anyio.run_process(
                [*command, *how, "--method", method, *arguments],
                check=False,
                env={**os.environ, "HOME": str(self.home)},
            )


def result(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """What it printed."""
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)["result"]
    return answer


@pytest.fixture(params=["legacy", "modern"])
def inspector(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Inspector:
    return Inspector(tmp_path, stack.url, request.param)


async def test_it_lists_without_a_token_and_calls_with_one(
    inspector: Inspector, stack: Stack
) -> None:
    token = ["--header", f"Authorization: Bearer {stack.token()}"]
    # Strictly: it has nothing to say against the schemas either, on standard error.
    listing = await inspector("tools/list", "--strict")
    listed = result(listing)
    found = result(await inspector("tools/call", "--tool-name", "discover_buckets", *token))
    bucket = ["--tool-name", "bucket_objects_list", "--tool-arg", "bucket=s3://shelf-00"]
    page = result(await inspector("tools/call", *bucket, *token))

    assert "discover_buckets" in {tool["name"] for tool in listed["tools"]}
    assert listing.stderr == b""
    assert [item["name"] for item in found["structuredContent"]["buckets"]] == BUCKETS
    assert [item["key"] for item in page["structuredContent"]["objects"]] == KEYS


async def test_it_understands_that_a_login_is_needed(inspector: Inspector) -> None:
    done = await inspector("tools/call", "--tool-name", "discover_buckets")

    assert done.returncode == AUTH_REQUIRED
    assert json.loads(done.stderr)["error"]["code"] == "auth_required"
