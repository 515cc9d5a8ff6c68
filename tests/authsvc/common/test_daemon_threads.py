"""Threads that nobody waits for in the end."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from authsvc.common.daemon_threads import DaemonThreads
from tests.support.bounds import TIMEOUT_SECONDS

CALLS = 100
"""More than an event loop's own executor has threads."""


def test_calls_that_hang_keep_neither_others_nor_the_end() -> None:
    may_end, ended = Event(), list[bool]()

    def hang() -> None:
        may_end.wait(TIMEOUT_SECONDS)
        ended.append(True)

    def fail() -> None:
        raise OSError("broken")

    async def main() -> int:
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        hanging = [asyncio.create_task(asyncio.to_thread(hang)) for _ in range(CALLS)]
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="broken"):
            await asyncio.to_thread(fail)
        result = await asyncio.to_thread(int, "7", base=8)
        for it in hanging:
            it.cancel()
        return result

    try:
        assert asyncio.run(main()) == 7
        assert not ended
    finally:
        may_end.set()
