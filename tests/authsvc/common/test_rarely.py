"""How often a log line is repeated that clients cause."""

from __future__ import annotations

from authsvc.common.rarely import MAX_KINDS, Rarely
from tests.support.clock import Clock


def test_a_line_of_one_kind_is_logged_once_in_an_interval() -> None:
    clock = Clock(0.0)
    lines = Rarely(10.0, clock)
    assert lines.may_pass("a")
    clock.advance(1.0)
    assert lines.may_pass("b")
    clock.advance(8.9)
    assert not lines.may_pass("a")
    clock.advance(0.1)
    assert lines.may_pass("a")
    clock.advance(9.9)
    assert not lines.may_pass("a")


def test_the_kinds_are_bounded() -> None:
    clock = Clock(0.0)
    lines = Rarely(10.0, clock)
    assert all(lines.may_pass(n) for n in range(MAX_KINDS + 1))
    clock.advance(1.0)
    assert not lines.may_pass(1)
    assert lines.may_pass(0)


def test_a_clock_that_steps_back_suppresses_nothing() -> None:
    clock = Clock(100.0)
    lines = Rarely(10.0, clock)
    assert lines.may_pass("a")
    clock.advance(-50.0)
    assert lines.may_pass("a")
    assert not lines.may_pass("a")
