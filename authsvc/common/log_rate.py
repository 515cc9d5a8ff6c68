"""Bounds how often a log line is repeated that clients cause."""

from __future__ import annotations

from collections.abc import Hashable

MAX_KEYS = 1024
"""Kinds of a line that are told apart; the oldest is evicted first, and may be logged anew."""


class LogRate:
    """Whether a line of one kind may be logged again.

    Args:
        interval_seconds: from one line of a kind to the next.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._logged: dict[Hashable, float] = {}

    def allows(self, key: Hashable, now: float) -> bool:
        """Whether to log a line now; it then counts as logged.

        Args:
            key: the kind of the line.
            now: monotonic seconds.
        """
        last = self._logged.get(key)
        if last is not None and now - last < self._interval_seconds:
            return False
        self._logged.pop(key, None)
        if len(self._logged) >= MAX_KEYS:
            del self._logged[next(iter(self._logged))]
        self._logged[key] = now
        return True
