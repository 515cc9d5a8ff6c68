"""Limits and what requests count as: wrong values are rejected where they are made."""

from __future__ import annotations

import math
from typing import Any

import pytest

from authsvc.domain.rates import Rate, RateLimit, RatePer, limits_of_call

RATE = Rate(2.0, 10.0)


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(0, 1), (-1, 1), (1e-7, 1), (1e7, 1), (1, 0.5), (1, 1e10), (math.nan, 1), (1, math.inf)],
)
def test_a_rate_is_in_range(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="is from"):
        Rate(rate, burst)


@pytest.mark.parametrize(("rate", "burst"), [(True, 1), ("2", 1), (1, None), (1, True)])
def test_a_rate_is_of_numbers(rate: Any, burst: Any) -> None:  # noqa: ANN401
    with pytest.raises(TypeError, match="is a number, not"):
        Rate(rate, burst)


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", "caf\u00e9", "a\nb", "\x7f", "\u202e"])
def test_the_name_of_a_limit_is_visible_ascii(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 visible ASCII characters"):
        RateLimit(name, RATE)


def test_a_limit_is_of_a_subject_unless_it_says_otherwise() -> None:
    assert RateLimit("!" + "x" * 62 + "~", RATE).per is RatePer.SUBJECT


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1, RATE), "name is of type str, not int"),
        (("search", 2.0), "rate is of type Rate, not float"),
        (("search", RATE, "subject"), "per is of type RatePer, not str"),
    ],
)
def test_a_limit_is_of_the_types_that_it_says(arguments: Any, named: str) -> None:  # noqa: ANN401
    with pytest.raises(TypeError, match=named):
        RateLimit(*arguments)


def test_the_limits_of_a_call() -> None:
    one, two = RateLimit("one", RATE), RateLimit("two", RATE)
    assert limits_of_call("rate_limits", [one, two]) == (one, two)
    with pytest.raises(ValueError, match="rate_limits holds at most 16 limits"):
        limits_of_call("rate_limits", [RateLimit(f"{it}", RATE) for it in range(17)])
    with pytest.raises(ValueError, match="rate_limits holds a limit twice"):
        limits_of_call("rate_limits", [one, RateLimit("one", Rate(2, 10))])


@pytest.mark.parametrize("limits", [RateLimit("one", RATE), None, 3])
def test_the_limits_of_a_call_are_several(limits: object) -> None:
    with pytest.raises(TypeError, match="rate_limits is a sequence of RateLimit"):
        limits_of_call("rate_limits", limits)


def test_the_limits_of_a_call_are_limits() -> None:
    with pytest.raises(TypeError, match="each of rate_limits is of type RateLimit, not str"):
        limits_of_call("rate_limits", "search")
