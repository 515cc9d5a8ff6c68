"""Fairness: work that blocks the event loop is bounded in each pass of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

AT_ONCE = 8
"""Pieces of work that a pass does without a wait: a millisecond, about. A task and a pass for each
would take as long as the work."""


class PassLimiter:
    """Lets a few through at once in each pass of the event loop, and waiters one by one.

    Verifying a signature takes as long as a dozen responses from the cache, and a batch may bring
    many tokens at once. All other work of the loop runs in between. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passing = False
        self._taken = 0

    def take(self) -> bool:
        """Whether one more piece of work may be done in this pass, without a wait."""
        if self._taken >= AT_ONCE:
            return False
        if self._taken == 0:
            asyncio.get_running_loop().call_soon(self._next_pass)
        self._taken += 1
        return True

    def _next_pass(self) -> None:
        self._taken = 0

    async def wait(self) -> None:
        """Wait for a pass of one's own."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._passing:
            self._passing = True
            self._pass(loop)
        await turn

    def _pass(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._waiting[0].cancelled():
            self._waiting.popleft()
        if not self._waiting:
            self._passing = False
            return
        self._waiting.popleft().set_result(None)
        # What is ready runs before the next waiter, the work of this one included.
        loop.call_soon(self._pass, loop)


def result_now(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT | None:
    """The result of a coroutine, without a task.

    Args:
        coroutine: may be closed where it first waits, and begun anew.

    Returns:
        None where it has to wait: it is closed then.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: ResultT = done.value
        return result
    coroutine.close()
    return None
