"""Turns for work that holds up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from authsvc.domain.errors import AuthError, Reason

MAX_WAITING = 32
"""Pieces of work that wait: they hold bodies of 4 MiB, and gateways wait for two seconds or so."""


class Turns:
    """One piece of work at a time; between two, the event loop has as long for all else.

    Args:
        clock: seconds, of any origin.
        sleep: lets others have the event loop for so many seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._free_time = clock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn. The block is the work, which waits for nothing.

        Raises:
            AuthError: OVERLOADED: ``MAX_WAITING`` wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise AuthError(Reason.OVERLOADED, "too many long bodies", retry_after_seconds=1.0)
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            if (wait := self._free_time - self._clock()) > 0.0:
                await self._sleep(wait)
            began = self._clock()
            try:
                yield
            finally:
                ended = self._clock()
                self._free_time = ended + (ended - began)
        finally:
            self._lock.release()
