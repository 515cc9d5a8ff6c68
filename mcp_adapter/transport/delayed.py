"""A task for what few requests last long enough to need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Delayed:
    """Runs a coroutine in a task, from ``seconds`` after the block begins until it ends.

    Until then it is a timer and no task: nearly every request is answered before.

    Args:
        seconds: until the task begins.
        function: returns the coroutine. What it raises is dropped.
    """

    def __init__(self, seconds: float, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._seconds = seconds
        self._function = function
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._begin)

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._function())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
