"""Calls as the adapter makes them, and what tools answer to them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from authsvc.domain.resolution import AwsCredentials, Credentials, Principal, Secret
from mcp_adapter import caller
from mcp_adapter.testing import as_caller
from mcp_adapter.tools import Call, Tool
from mcp_adapter.tools.s3 import S3Clients
from tests.support.bounds import TIMEOUT_SECONDS

PERMISSIONS = ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
BUCKETS = ("alpha", "empty-one", "missing-one")


def credentials(name: str = "AKIAREADER", *, expire_time: float = 0.0) -> AwsCredentials:
    return AwsCredentials(name, Secret(f"secret-of-{name}"), None, "us-east-1", expire_time)


def call_of(
    clients: S3Clients,
    *,
    buckets: tuple[str, ...] = BUCKETS,
    permissions: tuple[str, ...] = PERMISSIONS,
    key: str | None = "AKIAREADER",
) -> Call:
    """A call by Alice, whose token has an hour to go."""
    expire_time = time.time() + 3600
    who = Principal("idp", "alice", expire_time, buckets=buckets, permissions=permissions)
    return calling(who, clients, credentials(key) if key else None)


def calling(who: Principal, clients: S3Clients, issued: Credentials | None = None) -> Call:
    """A call by somebody, who has these credentials."""
    return Call(caller(as_caller(who, credentials=issued)), clients)


async def answer(tool: Tool, call: Call, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """What the tool answers."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        result = await tool.run(call, arguments)
    assert not result.is_error, result
    return result.structured_content


async def refusal(tool: Tool, call: Call, **arguments: object) -> str:
    """How the tool says no."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        result = await tool.run(call, arguments)
    assert result.is_error
    assert result.structured_content is None
    text: str = result.content[0].text  # type: ignore[union-attr] # our errors are text
    return text
