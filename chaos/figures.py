"""From a history to figures: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression

from chaos.checks import obeyed_after
from chaos.history import Call, History


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: how many there are, and where they lie; zeros where there are none."""

    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of any number of samples."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)
        last = len(ordered) - 1
        return cls(len(ordered), ordered[last // 2], ordered[round(last * 0.99)], ordered[-1])


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed.

    Attributes:
        calls: of clients that balance, repeats included.
        failures: of these, by reason.
        latency: of these that did not fail.
        failed_after: how long those took that did fail.
        obeyed: from a revocation's acknowledgement to each replica's refusal.
        recovery_seconds: from when the fault was over to the end of the last call that began after
            it and failed; None where the fault has no end.
        gap_seconds: the longest time in which no call at all was answered.
    """

    calls: int
    failures: dict[str, int]
    latency: Spread
    failed_after: Spread
    obeyed: Spread
    recovery_seconds: float | None
    gap_seconds: float

    @classmethod
    def of(cls, history: History) -> Figures:
        """Of a whole run."""
        calls = list(history.of_load())
        failed = [call for call in calls if call.failed]
        answered = [call for call in calls if not call.failed]
        return cls(
            calls=len(calls),
            failures=dict(Counter(call.reason for call in failed)),
            latency=Spread.of([call.seconds for call in answered]),
            failed_after=Spread.of([call.seconds for call in failed]),
            obeyed=Spread.of(obeyed_after(history.calls)),
            recovery_seconds=_recovery(failed, history.marks.get("over")),
            gap_seconds=_longest_gap(answered),
        )


def slope_per_minute(samples: Sequence[tuple[float, float]]) -> float:
    """How fast a value grows, by least squares.

    Args:
        samples: (seconds, value), two or more.
    """
    seconds, values = zip(*samples, strict=True)
    return 60 * linear_regression(seconds, values).slope


def _recovery(failed: Sequence[Call], over: float | None) -> float | None:
    if over is None:
        return None
    return max((call.end - over for call in failed if call.start >= over), default=0.0)


def _longest_gap(answered: Sequence[Call]) -> float:
    ends = sorted(call.end for call in answered)
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)
