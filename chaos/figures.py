"""Measurements of a history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression

from chaos.checks import obeyed_after
from chaos.history import Act, Call, History


@dataclass(frozen=True, slots=True)
class Spread:
    """Number and percentiles of durations in seconds; zeros if there are none."""

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
    """The measurements of one run.

    Attributes:
        calls: of clients that balance, retries included.
        failures: of these, by reason.
        refusals: of these, by reason. Most are intended: foreign tokens and ended sessions.
        latency: of calls that did not fail.
        failed_after: duration of calls that failed.
        obeyed: from the acknowledgement of a revocation to the last answer of each replica with the
            revoked identity.
        recovery_seconds: from the end of the fault to the end of the last call that began after it
            and failed; None if the fault has no end.
        gap_seconds: the longest time without an answered call.
        signals: attempts to send a signal, by the reason why it was not acknowledged; empty for
            those that were.
    """

    calls: int
    failures: dict[str, int]
    refusals: dict[str, int]
    latency: Spread
    failed_after: Spread
    obeyed: Spread
    recovery_seconds: float | None
    gap_seconds: float
    signals: dict[str, int]

    @classmethod
    def of(cls, history: History) -> Figures:
        """Of a whole run."""
        calls = list(history.of_load())
        failed = [call for call in calls if call.failed]
        answered = [call for call in calls if not call.failed]
        return cls(
            calls=len(calls),
            failures=dict(Counter(call.reason for call in failed)),
            refusals=dict(Counter(call.reason for call in answered if call.reason)),
            latency=Spread.of([call.seconds for call in answered]),
            failed_after=Spread.of([call.seconds for call in failed]),
            obeyed=Spread.of(obeyed_after(history.calls)),
            recovery_seconds=_recovery(failed, history.marks.get("over")),
            gap_seconds=_longest_gap(answered),
            signals=dict(Counter(it.reason for it in history.calls if it.act is Act.SIGNAL)),
        )


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of a replica's memory, in KB.

    Attributes:
        first: after a third of the run, when caches are full.
        last: at the end.
        per_minute: slope by least squares from ``first`` on.
    """

    first: float
    last: float
    per_minute: float

    @classmethod
    def of(cls, samples: Sequence[tuple[float, float]]) -> Growth:
        """Of samples (seconds, KB), three or more."""
        steady = samples[len(samples) // 3 :]
        seconds, sizes = zip(*steady, strict=True)
        return cls(sizes[0], sizes[-1], 60 * linear_regression(seconds, sizes).slope)


def _recovery(failed: Sequence[Call], over: float | None) -> float | None:
    if over is None:
        return None
    return max((call.end - over for call in failed if call.start >= over), default=0.0)


def _longest_gap(answered: Sequence[Call]) -> float:
    ends = sorted(call.end for call in answered)
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)
