"""A token bucket: a number of events at once, and a rate after that."""

from __future__ import annotations


class TokenBucket:
    """``burst`` events at once, ``rate`` a second after that.

    Args:
        rate: events per second.
        burst: events at once; at least 1.
        now: the time, in seconds of any origin. The other times have the same one.
    """

    __slots__ = ("_burst", "_level", "_rate", "_time")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._time = now

    def take(self, now: float, events: float = 1.0) -> float:
        """Take events, all or none; returns 0, or the seconds to wait where there are too few.

        More than ``burst`` are taken of a full bucket, which is filled again the later for it.
        """
        wait = self.wait(now, events)
        if wait == 0.0:
            self._level -= events
        return wait

    def wait(self, now: float, events: float = 1.0) -> float:
        """The seconds to wait until there are so many events to take; takes none."""
        # A clock that steps back neither fills the bucket nor blocks it.
        if (elapsed := now - self._time) > 0.0:
            self._level = min(self._burst, self._level + elapsed * self._rate)
        self._time = now
        needed = min(events, self._burst)
        return 0.0 if self._level >= needed else (needed - self._level) / self._rate

    def put_back(self, events: float = 1.0) -> None:
        """Return events that were taken and are not to count."""
        self._level = min(self._burst, self._level + events)
