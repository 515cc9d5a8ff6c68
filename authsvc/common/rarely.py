"""A bounded rate of log lines that clients cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

MAX_KINDS = 1024
"""Kinds that are told apart; the oldest is evicted first, and may pass anew."""


class Rarely:
    """Lets each kind of event pass once in a time.

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
        # A clock that steps back must not suppress what follows.
        if passed is not None and 0.0 <= now - passed < self._interval_seconds:
            return False
        self._passed.pop(kind, None)
        if len(self._passed) >= MAX_KINDS:
            del self._passed[next(iter(self._passed))]
        self._passed[kind] = now
        return True
