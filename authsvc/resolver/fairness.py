"""Turns for work that holds up the event loop: one a pass, so that all else goes on in between."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets waiters through one by one, each in a pass of the event loop of its own.

    Checking a signature takes as long as a dozen answers from memory, and a batch may bring many
    at once. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passing = False

    async def take(self) -> None:
        """Wait for a turn."""
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
        # What is ready runs before the next turn, the work of this one among it.
        loop.call_soon(self._pass, loop)
