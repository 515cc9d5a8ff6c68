"""A bounded rate of answers to requests that cost their sender almost nothing."""

from __future__ import annotations

import asyncio


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
