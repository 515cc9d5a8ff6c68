"""Counters cheap enough for the hot path: plain numbers, which a scrape reads.

They belong to the event loop. A scrape reads them from a thread of its own: each read is one step
of the interpreter, so that what it sees is a moment old, and never half of something.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Outcome, Resolution

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper ends of the buckets of all histograms; what took longer is in one more."""

INTERNAL = "INTERNAL"
"""The result of what failed in no way that is foreseen."""

ANONYMOUS = "anonymous"
"""The result of an answer that is about no session."""

_COUNTED_FROM_ZERO = (*(outcome.name.lower() for outcome in Outcome), ANONYMOUS, INTERNAL)


class Histogram:
    """How long something took, in buckets."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total += seconds


class Resolves:
    """What became of resolves that came one way.

    Attributes:
        cached: answered from memory, without a decision; all of them ``reused``.
        in_flight: being decided.
        results: the others, by outcome in lower case, or by reason. Those that no reason explains
            are there from the start: Prometheus's ``increase`` does not see the first of a series
            that begins with it, and one internal error is to be seen.
        seconds: how long deciding took. What is answered from memory is counted and not timed:
            looking at the clock twice would cost more than all else that is counted there.
    """

    __slots__ = ("cached", "in_flight", "results", "seconds")

    def __init__(self) -> None:
        self.cached = 0
        self.in_flight = 0
        self.results: Counter[str] = Counter(dict.fromkeys(_COUNTED_FROM_ZERO, 0))
        self.seconds = Histogram()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around each decision."""
        began = time.perf_counter()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self.seconds.observe(time.perf_counter() - began)

    def answered(self, resolution: Resolution) -> None:
        """Count an answer that was decided on."""
        outcome = resolution.outcome
        self.results[outcome.name.lower() if outcome else ANONYMOUS] += 1

    def refused(self, error: Exception) -> None:
        """Count a request that was refused, or failed."""
        self.results[reason_of(error)] += 1


class Operations:
    """What became of operations of one kind, such as those of a store.

    Attributes:
        seconds: how long each took, failures included.
        results: how often, by operation and result: ``ok``, or a reason.
    """

    __slots__ = ("results", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, Histogram] = {}
        self.results: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Around each operation. One that is cancelled is counted as neither."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._count(operation, reason_of(error), began)
            raise
        self._count(operation, "ok", began)

    def _count(self, operation: str, result: str, began: float) -> None:
        if (histogram := self.seconds.get(operation)) is None:
            histogram = self.seconds[operation] = Histogram()
        histogram.observe(time.perf_counter() - began)
        self.results[operation, result] += 1


def reason_of(error: Exception) -> str:
    """The name under which a failure is counted."""
    return error.reason.name if isinstance(error, AuthError) else INTERNAL
