"""Times and durations as text."""

from __future__ import annotations

import pytest

from authsvc.common.times import duration, parse, relative, rfc3339, utc

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (3_661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (90_061, "1 d 1 h"),
        (86_401, "1 d"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
    assert duration(-seconds) == shown
    if seconds:
        assert relative(NOW, NOW + seconds) == f"{shown} ago"
        assert relative(NOW + seconds, NOW) == f"in {shown}"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.5, "now"), (-1, "1 s ago"), (-125, "2 min ago"), (7_200, "in 2 h"), (-200_000, "2 d ago")],
)
def test_a_relative_time_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert relative(NOW + seconds, NOW, max_units=1) == shown


def test_a_time_that_is_impossible_is_the_nearest_possible_one() -> None:
    assert rfc3339(-1) == "1970-01-01T00:00:00.000Z"
    assert f"{utc(1e300):%Y-%m-%d %H:%M:%S}" == "9999-12-31 23:59:59"


def test_what_is_written_for_scripts_is_read_back() -> None:
    assert parse(rfc3339(1_795_467_600.25)) == 1_795_467_600.25
    assert parse("2026-11-23T21:00:00") == parse("2026-11-23T22:00:00+01:00") == 1_795_467_600.0
    with pytest.raises(ValueError, match="Invalid isoformat string"):
        parse("2h")
