"""The log of clocks that differ."""

from __future__ import annotations

import logging

import pytest

from authsvc.telemetry.clocks import LOG_SECONDS, ClockOffsets
from tests.support.clock import Clock


def test_a_clock_that_differs_is_logged_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "authsvc.telemetry.clocks")
    monotonic = Clock(0.0)
    clocks = ClockOffsets(monotonic)

    def lines(**seconds: float) -> list[tuple[str, str]]:
        caplog.clear()
        clocks.measured(seconds)
        assert clocks.seconds == seconds
        return [(it.levelname, it.getMessage()) for it in caplog.records]

    def differs(peer: str, how: str) -> tuple[str, str]:
        by = "tokens and revocations go by both: synchronise them (NTP)"
        return "WARNING", f"the clock of {peer} is {how} this machine's; {by}"

    agrees = ("INFO", "the clock of store agrees with this machine's again")

    assert lines(store=10.0, idp=-10.0) == []
    assert lines(store=11.0, idp=-10.0) == [differs("store", "11 s ahead of")]
    # Each peer by itself.
    assert lines(store=12.0, idp=-11.0) == [differs("idp", "11 s behind")]
    monotonic.advance(LOG_SECONDS - 1)
    assert lines(store=12.0) == []
    monotonic.advance(1)
    assert lines(store=-300.0) == [differs("store", "300 s behind")]
    # Unknown is not over.
    assert lines() == []
    assert lines(store=9.0) == [agrees]
    assert lines(store=9.0) == []
    # What comes back within the hour is not logged, and so its end is not, either.
    assert lines(store=11.0) == []
    assert lines(store=0.0) == []
    monotonic.advance(LOG_SECONDS)
    assert lines(store=11.0) == [differs("store", "11 s ahead of")]
    assert lines(store=0.0) == [agrees]
