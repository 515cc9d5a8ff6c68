"""Bounded rates: of answers to requests that cost their sender almost nothing, and of warnings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable


class Pace:
    """Lets one request pass in each interval.

    Args:
        interval_seconds: from one to the next.
        max_seconds: longest wait; a caller that would wait longer passes then.
    """

    def __init__(self, interval_seconds: float, max_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._max_seconds = max_seconds
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next may pass."""
        await asyncio.sleep(self.delay_seconds(asyncio.get_running_loop().time()))

    def delay_seconds(self, now: float) -> float:
        """Reserve the next interval. Seconds until it begins."""
        due = max(now, self._next)
        if due - now >= self._max_seconds:
            return self._max_seconds
        self._next = due + self._interval_seconds
        return due - now


class Rarely:
    """Lets each of a few kinds of events pass once in a time.

    Args:
        interval_seconds: from one of a kind to the next.
        clock: seconds, of any origin.
    """

    def __init__(
        self, interval_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._passed: dict[Hashable, float] = {}

    def may_pass(self, kind: Hashable) -> bool:
        """Whether one of this kind may pass now; it has passed then."""
        now = self._clock()
        passed = self._passed.get(kind)
        if passed is not None and now - passed < self._interval_seconds:
            return False
        self._passed[kind] = now
        return True
