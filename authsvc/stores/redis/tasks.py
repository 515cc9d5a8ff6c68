"""Tasks around the client: ended for certain, or left to run in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from authsvc.domain.errors import AuthError

END_SECONDS = 10.0
"""How long to wait for a cancelled task to end."""

MAX_IN_BACKGROUND = 1_000
"""Best-effort writes in flight; further ones are skipped."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: while it connects, the client swallows cancellations.

    A task that does not end within ``END_SECONDS`` is abandoned.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + END_SECONDS
    pending = set(tasks)
    while pending and loop.time() < deadline:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=0.05)
        for task in ended:
            if not task.cancelled():
                task.exception()  # marks it as retrieved


class BackgroundWrites:
    """Best-effort writes that no caller waits for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, write: Coroutine[Any, Any, Any]) -> None:
        """Run a write. Its failure is ignored; beyond ``MAX_IN_BACKGROUND`` it is skipped."""
        if self._closed or len(self._tasks) >= MAX_IN_BACKGROUND:
            write.close()
            return
        task = asyncio.create_task(_ignoring_failures(write))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what runs, and start no more."""
        self._closed = True
        await asyncio.gather(*self._tasks)


async def _ignoring_failures(write: Coroutine[Any, Any, Any]) -> None:
    with suppress(AuthError):
        await write
