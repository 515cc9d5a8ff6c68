"""Figures of made-up histories."""

from __future__ import annotations

import pytest

from chaos.figures import Figures, Growth, Spread
from chaos.history import Act, Call, History


def resolved(start: float, end: float, reason: str = "", via: str = "load-0") -> Call:
    answered = "" if reason else "alice"
    return Call(Act.RESOLVE, via, start, end, 2, "s", "alice", 1, answered, reason)


def test_a_spread_of_nothing_is_nothing() -> None:
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0)


def test_a_spread_has_the_tail() -> None:
    spread = Spread.of([number / 1000 for number in range(1000, -1, -1)])
    assert (spread.count, spread.p50, spread.p99, spread.max) == (1001, 0.5, 0.99, 1.0)


def test_failures_and_refusals_are_counted_apart() -> None:
    history = History(
        [
            resolved(0, 0.1),
            resolved(0, 0.2, "SESSION_REVOKED"),
            resolved(0, 0.3, "STORE_UNAVAILABLE"),
            resolved(0, 9, "STORE_UNAVAILABLE", via="replica-0"),
        ]
    )
    figures = Figures.of(history)
    assert figures.calls == 3
    assert figures.failures == {"STORE_UNAVAILABLE": 1}
    assert figures.refusals == {"SESSION_REVOKED": 1}
    assert figures.latency.max == pytest.approx(0.2)
    assert figures.failed_after.max == pytest.approx(0.3)


def test_signals_are_counted_by_their_answers() -> None:
    answers = ("", "STORE_UNAVAILABLE", "")
    sent = [Call(Act.SIGNAL, "replica-0", 0, 1, 12, reason=answer) for answer in answers]
    figures = Figures.of(History([*sent, resolved(0, 1)]))
    assert figures.signals == {"": 2, "STORE_UNAVAILABLE": 1}


def test_recovery_ends_with_the_last_failure_that_began_after_the_fault() -> None:
    calls = [
        resolved(9, 11.9, "STORE_UNAVAILABLE"),
        resolved(10.1, 10.2, "STORE_UNAVAILABLE"),
        resolved(10.3, 10.7, "STORE_UNAVAILABLE"),
        resolved(10.4, 10.5),
    ]
    assert Figures.of(History(calls)).recovery_seconds is None
    assert Figures.of(History(calls, {"over": 10})).recovery_seconds == pytest.approx(0.7)
    assert Figures.of(History(calls, {"over": 20})).recovery_seconds == 0.0


def test_the_longest_time_without_an_answer() -> None:
    calls = [resolved(0, 1), resolved(1, 2, "STORE_UNAVAILABLE"), resolved(2, 4.5), resolved(2, 5)]
    assert Figures.of(History(calls)).gap_seconds == pytest.approx(3.5)


def test_growth_leaves_out_the_time_in_which_caches_fill() -> None:
    filling = [(float(second), 100.0 * second) for second in range(30)]
    flat = [(float(second), 3_000.0) for second in range(30, 90)]
    leaking = [(second, size + 2 * second) for second, size in flat]
    assert Growth.of(filling + flat).per_minute == pytest.approx(0)
    assert Growth.of(filling + leaking).per_minute == pytest.approx(120)
