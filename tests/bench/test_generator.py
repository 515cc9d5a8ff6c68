"""When a load was not what it was meant to be."""

from __future__ import annotations

import pytest

from bench.client import histogram
from bench.figures import Sample
from bench.generator import Outcome, doubts
from bench.sections import refused

SAMPLE = Sample(1, 1.0, 0.1, 0.1)


def outcome(lag_micros: int = 100, busiest: float = 0.5) -> Outcome:
    lags = histogram()
    lags.record_value(lag_micros)
    return Outcome({}, lags, {}, SAMPLE, busiest)


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([outcome()] * 3, []),
        # A median is judged, so the median counts: one late round of three does not.
        ([outcome(), outcome(lag_micros=9_000, busiest=1.0), outcome()], []),
        ([outcome(lag_micros=9_000)] * 2 + [outcome()], ["late"]),
        ([outcome(busiest=0.95)] * 2 + [outcome()], ["of a CPU"]),
    ],
)
def test_several_rounds_are_doubted_by_their_median(
    rounds: list[Outcome], words: list[str]
) -> None:
    found = doubts(rounds)
    assert len(found) == len(words)
    assert all(word in doubt for word, doubt in zip(words, found, strict=True))


def test_a_flood_that_is_late_gives_no_verdict() -> None:
    alone = [[outcome()] for _ in range(3)]
    late = [[outcome(), outcome(lag_micros=5_000)] for _ in range(3)]
    assert refused._late(alone) == []
    assert len(refused._late(alone, late)) == 1
