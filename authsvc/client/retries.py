"""When a failed attempt is retried, after which wait, and how long each attempt may take."""

from __future__ import annotations

import random
from dataclasses import dataclass

BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
"""Waits before a retry are random, so that clients that failed together do not retry together: from
0 to the first of these before the first retry, to twice as much before each further one, and never
more than the second."""

WATCH_BACKOFF_SECONDS = 30.0
"""The longest wait of what retries without an end: a watch, in an outage of any length."""

_MAX_DOUBLINGS = 30

RETRIES = 100.0
"""How many retries are possible before calls have to succeed again."""

EARNED_BY_SUCCESS = 0.1
"""In the long run retries add at most a tenth to the load."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How the attempts of a call share its deadline.

    Attributes:
        per_try_timeout_fraction: the part of the time left that one replica gets while there is
            another to ask.
        max_attempts: None for as many as the deadline allows.
        max_backoff_seconds: the longest wait before a retry.
    """

    per_try_timeout_fraction: float
    max_attempts: int | None = None
    max_backoff_seconds: float = MAX_BACKOFF_SECONDS

    def backoff_seconds(self, attempts: int) -> float:
        """How long to wait after that many failed attempts."""
        doublings = min(attempts - 1, _MAX_DOUBLINGS)
        longest = min(BACKOFF_SECONDS * 2**doublings, self.max_backoff_seconds)
        return random.uniform(0.0, longest)  # noqa: S311 - jitter


class RetryBudget:
    """Limits retries, because a slow store does not recover under four times the load.

    As gRPC's own retry throttling (gRFC A6).
    """

    def __init__(self) -> None:
        self._left = RETRIES

    def spend(self) -> bool:
        """Take one retry; whether there was one left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def earn(self) -> None:
        """A call has succeeded."""
        self._left = min(RETRIES, self._left + EARNED_BY_SUCCESS)
