"""Attempts to sign in are limited."""

from __future__ import annotations

from authsvc.console.attempts import (
    ALL_ATTEMPT_SECONDS,
    ALL_ATTEMPTS,
    ATTEMPT_SECONDS,
    ATTEMPTS,
    MAX_ADDRESSES,
    SignInAttempts,
)
from tests.support.clock import Clock


def test_one_address_does_not_use_up_the_others_attempts(clock: Clock) -> None:
    attempts = SignInAttempts(clock)
    assert [attempts.take("a") for _ in range(ATTEMPTS)] == [0.0] * ATTEMPTS
    for _ in range(10 * ALL_ATTEMPTS):
        assert attempts.take("a") == ATTEMPT_SECONDS
    assert attempts.take("b") == 0.0
    clock.advance(ATTEMPT_SECONDS)
    assert attempts.take("a") == 0.0
    assert attempts.take("a") == ATTEMPT_SECONDS


def test_many_addresses_are_limited_together_and_evicted(clock: Clock) -> None:
    attempts = SignInAttempts(clock)
    waits = [attempts.take(str(number)) for number in range(2 * MAX_ADDRESSES)]
    assert waits == [0.0] * ALL_ATTEMPTS + [ALL_ATTEMPT_SECONDS] * (len(waits) - ALL_ATTEMPTS)
    assert len(attempts._by_address) == MAX_ADDRESSES


def test_a_clock_that_goes_back_allows_no_attempt(clock: Clock) -> None:
    attempts = SignInAttempts(clock)
    for _ in range(ATTEMPTS):
        attempts.take("a")
    clock.advance(-1_000)
    assert attempts.take("a") == ATTEMPT_SECONDS
