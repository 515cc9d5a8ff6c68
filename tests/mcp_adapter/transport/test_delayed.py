"""A task that begins late, or never."""

from __future__ import annotations

import anyio
import pytest

from mcp_adapter.transport.delayed import Delayed
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


async def test_a_block_that_ends_before_begins_no_task() -> None:
    begun = []

    async def function() -> None:
        begun.append(True)

    async with Delayed(0, function):
        pass
    for _ in range(10):
        await anyio.lowlevel.checkpoint()

    assert begun == []


@pytest.mark.parametrize("fails", [False, True])
async def test_the_task_ends_with_the_block(fails: bool) -> None:
    begun, ended = anyio.Event(), []

    async def function() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)
            if fails:
                raise OSError

    with anyio.fail_after(TIMEOUT_SECONDS):
        async with Delayed(0, function):
            await begun.wait()

    assert ended == [True]
