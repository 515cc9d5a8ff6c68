"""When an attempt that failed is made again, how long after, and how long each attempt may take."""

from __future__ import annotations

import random
from dataclasses import dataclass

BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
"""Waits before a repetition are random: from nothing up to the first of these before the first
repetition, up to twice as much before each further one, and never more than the second. Clients
that failed together do not come back together."""

_MAX_DOUBLINGS = 30

RETRIES = 100.0
"""Attempts that may be repeated before calls have to succeed again."""

EARNED_BY_SUCCESS = 0.1
"""So that, in the long run, repeating adds no more than a tenth to the load."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How the attempts of one call share its deadline.

    Attributes:
        per_try_timeout_fraction: the part of the time left that one replica gets while there is
            another to ask.
        max_attempts: None for as many as the deadline allows.
    """

    per_try_timeout_fraction: float
    max_attempts: int | None = None

    def backoff_seconds(self, attempts: int) -> float:
        """How long to wait after so many attempts have failed."""
        doublings = min(attempts - 1, _MAX_DOUBLINGS)
        longest = min(BACKOFF_SECONDS * 2**doublings, MAX_BACKOFF_SECONDS)
        return random.uniform(0.0, longest)  # noqa: S311 - jitter


class RetryBudget:
    """How many attempts may be repeated: a store that is slow is not helped by four times the load.

    As gRPC's own retry throttling has it (gRFC A6).
    """

    def __init__(self) -> None:
        self._left = RETRIES

    def spend(self) -> bool:
        """Take one; whether there was one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def earn(self) -> None:
        """A call has succeeded."""
        self._left = min(RETRIES, self._left + EARNED_BY_SUCCESS)
