"""The gate: what it lets pass, and what it does not."""

from __future__ import annotations

import json

import pytest

from bench.check import BASELINE, SIDES, entry, limit, regressions, render
from bench.figures import Summary

RECORDED = {"row 8, unary": {"ratio": 1.2, "tolerance": 0.25}}


def now(ratio: float) -> dict[str, Summary]:
    return {"row 8, unary": Summary(ratio, ratio, ratio)}


@pytest.mark.parametrize("ratio", [0.5, 1.2, 1.49])
def test_within_the_tolerance_it_passes(ratio: float) -> None:
    assert regressions(now(ratio), RECORDED) == []
    assert "ok" in render(now(ratio), RECORDED)


def test_beyond_it_does_not() -> None:
    assert regressions(now(1.51), RECORDED) == ["row 8, unary"]
    assert "WORSE" in render(now(1.51), RECORDED)


def test_what_was_never_recorded_does_not_pass() -> None:
    assert regressions(now(1.0), {}) == ["row 8, unary"]


@pytest.mark.parametrize(
    ("low", "high", "tolerance"), [(1.0, 1.0, 0.20), (0.9, 1.1, 0.40), (0.5, 2.0, 0.50)]
)
def test_the_tolerance_comes_from_the_spread(low: float, high: float, tolerance: float) -> None:
    recorded = entry(Summary(1.0, low, high))
    assert recorded["tolerance"] == pytest.approx(tolerance)
    assert limit(recorded) == pytest.approx(1 + tolerance)


def test_all_that_is_measured_is_recorded() -> None:
    assert set(json.loads(BASELINE.read_text())) == set(SIDES)
