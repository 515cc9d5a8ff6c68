"""What a handler sets in its context ends with its request."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from mcp_adapter.transport.own_context import OwnContext
from mcp_adapter.transport.replies import reply_to

pytestmark = pytest.mark.anyio

WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def test_what_a_handler_sets_is_seen_by_itself_alone() -> None:
    seen: list[str] = []

    async def handle() -> dict[str, str]:
        seen.append(WHO.get())
        WHO.set("ada")
        await asyncio.sleep(0)
        seen.append(WHO.get())
        return {}

    for _ in range(2):
        await reply_to(1, handle())

    assert seen == ["nobody", "ada"] * 2
    assert WHO.get() == "nobody"


async def test_errors_and_cancellation_reach_the_coroutine() -> None:
    begun, seen = asyncio.Event(), []

    async def handle() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    async def run() -> None:
        await OwnContext(handle())

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]
    with pytest.raises(KeyError):
        await OwnContext(fail())
