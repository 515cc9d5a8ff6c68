"""How often a log line is repeated that clients cause."""

from __future__ import annotations

from authsvc.common.log_rate import MAX_KEYS, LogRate


def test_a_line_of_one_kind_is_logged_once_in_an_interval() -> None:
    rate = LogRate(10.0)
    assert rate.allows("a", 0.0)
    assert rate.allows("b", 1.0)
    assert not rate.allows("a", 9.9)
    assert rate.allows("a", 10.0)
    assert not rate.allows("a", 19.9)


def test_the_kinds_are_bounded() -> None:
    rate = LogRate(10.0)
    assert all(rate.allows(n, 0.0) for n in range(MAX_KEYS + 1))
    assert not rate.allows(1, 1.0)
    assert rate.allows(0, 1.0)
