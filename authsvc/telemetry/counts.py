"""Counters cheap enough for the hot path: plain numbers, which a scrape reads.

``prometheus_client`` formats and serves them, and does not count: its counters lock, so that an
increment takes 8 times as long as one of these, 22 times with a look-up of its labels, and an
observation of its histogram 5 times (OpenTelemetry's counter: 90 times). Most requests are cached
responses of a few microseconds. What is off the hot path is counted in the same way, so that there
is one.

The numbers belong to the event loop. A scrape reads them from a thread of its own. Each read is one
step of the interpreter: its result may be a moment old, and is never inconsistent in itself.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Outcome, Resolution

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets of all histograms. One more bucket has longer durations."""

INTERNAL = "INTERNAL"
"""The result of an unexpected failure."""

ANONYMOUS = "anonymous"
"""The result of a response without a session."""

ALLOWED = "allowed"
"""The answer to a check that the gateway passes on."""

OK = "ok"
"""The result of an operation that has not failed."""

NONE = "none"
"""The result of a request for credentials of which the principal has none."""

_COUNTED_FROM_ZERO = (*(outcome.name.lower() for outcome in Outcome), ANONYMOUS, INTERNAL)


class Histogram:
    """Durations in buckets."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total += seconds


class Resolves:
    """Results of the resolves of one RPC.

    Attributes:
        cached: number of cached responses; all of them are ``reused``.
        in_flight: number of resolves that are being decided.
        results: number of decided resolves by outcome in lower case, or by reason. Outcomes and
            ``INTERNAL`` begin at 0: Prometheus's ``increase`` does not show the first of a series
            that begins at 1, and a single internal error has to show.
        seconds: durations of decisions. Cached responses are counted and not timed: reading the
            clock twice would cost more than everything else that is counted for them.
    """

    __slots__ = ("cached", "in_flight", "results", "seconds")

    def __init__(self) -> None:
        self.cached = 0
        self.in_flight = 0
        self.results: Counter[str] = Counter(dict.fromkeys(_COUNTED_FROM_ZERO, 0))
        self.seconds = Histogram()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Time a decision, and count it as in flight."""
        began = time.perf_counter()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self.seconds.observe(time.perf_counter() - began)

    def answered(self, resolution: Resolution) -> None:
        """Count a decision by its outcome."""
        outcome = resolution.outcome
        self.results[outcome.name.lower() if outcome else ANONYMOUS] += 1

    def failed(self, error: Exception) -> None:
        """Count a request that was rejected, or failed."""
        self.results[reason_of(error)] += 1


class Checks:
    """Results of the checks that gateways ask for.

    Attributes:
        answers: number of checks by answer: ``allowed``, or the HTTP status that the gateway
            answers. Those that have to show begin at 0, as of ``Resolves``.
        resolves: the resolves of these checks.
    """

    __slots__ = ("answers", "resolves")

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter({ALLOWED: 0, "401": 0, "403": 0, "500": 0, "503": 0})
        self.resolves = Resolves()


class Timed:
    """An operation under way.

    Attributes:
        result: as which it is counted if it does not fail.
    """

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result = OK


class Operations:
    """Results of operations of one kind, such as those of a store.

    Args:
        from_zero: operations and results that are counted from 0 on, as of ``Resolves``.

    Attributes:
        seconds: durations by operation, failures included.
        results: number of operations by operation and result: a reason for those that failed, for
            others ``ok`` or what the operation has set.
    """

    __slots__ = ("results", "seconds")

    def __init__(self, from_zero: Iterable[tuple[str, str]] = ()) -> None:
        self.seconds: dict[str, Histogram] = {}
        self.results: Counter[tuple[str, str]] = Counter(dict.fromkeys(from_zero, 0))

    @contextmanager
    def timed(self, operation: str) -> Iterator[Timed]:
        """Time and count an operation. A cancelled one is not counted."""
        began, timed = time.perf_counter(), Timed()
        try:
            yield timed
        except Exception as error:
            self._count(operation, reason_of(error), began)
            raise
        self._count(operation, timed.result, began)

    def _count(self, operation: str, result: str, began: float) -> None:
        if (histogram := self.seconds.get(operation)) is None:
            histogram = self.seconds[operation] = Histogram()
        histogram.observe(time.perf_counter() - began)
        self.results[operation, result] += 1


def reason_of(error: Exception) -> str:
    """The result as which a failure is counted."""
    return error.reason.name if isinstance(error, AuthError) else INTERNAL
