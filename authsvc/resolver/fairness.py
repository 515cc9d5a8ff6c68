"""Fairness: work that blocks the event loop is done once per pass of the loop."""

from __future__ import annotations

import asyncio
from collections import deque


class PassLimiter:
    """Lets waiters through one by one, each in a pass of the event loop of its own.

    Verifying a signature takes as long as a dozen responses from the cache, and a batch may bring
    many tokens at once. All other work of the loop runs in between. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passing = False

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
