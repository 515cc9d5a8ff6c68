"""When calls fail at once, and when a call probes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from authsvc.client.breaker import (
    FAILURES,
    NO_CREATIONS,
    OPEN_SECONDS,
    UNAVAILABLE,
    Breaker,
    Fault,
)
from authsvc.domain.errors import AuthError, Reason
from tests.support.clock import Clock

AWAY = AuthError(Reason.SERVICE_UNAVAILABLE)
TARGET = "127.0.0.1:1,dns:///authsvc.internal:2"


def fail(breaker: Breaker, error: BaseException = AWAY) -> None:
    with pytest.raises(type(error)), breaker.call():
        raise error


@pytest.fixture
def opened(clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(TARGET, clock)
    for _ in range(FAILURES):
        fail(breaker)
    return breaker


def is_open(breaker: Breaker) -> bool:
    """Whether a call is failed at once; one that is let through succeeds."""
    try:
        with breaker.call():
            return False
    except AuthError:
        return True


def test_it_opens_after_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(TARGET, clock)
    for _ in range(3):
        for _ in range(FAILURES - 1):
            fail(breaker)
        assert not is_open(breaker)
    for _ in range(FAILURES):
        fail(breaker)
    assert is_open(breaker)


NO_WRITE = AuthError(Reason.STORE_UNAVAILABLE, of_write=True)

COUNTED = {
    UNAVAILABLE: (AWAY, AuthError(Reason.STORE_UNAVAILABLE)),
    NO_CREATIONS: (AWAY, AuthError(Reason.STORE_UNAVAILABLE), NO_WRITE),
}
"""The errors that each breaker counts."""

ERRORS = (*map(AuthError, Reason), NO_WRITE)


@pytest.mark.parametrize("fault", COUNTED, ids=lambda fault: fault.what)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{error.reason.name} {error.of_write}")
def test_only_its_own_fault_counts(clock: Clock, fault: Fault, error: AuthError) -> None:
    counted = [(it.reason, it.of_write) for it in COUNTED[fault]]
    breaker = Breaker(TARGET, clock, fault)
    for _ in range(FAILURES):
        fail(breaker, error)
    assert is_open(breaker) is ((error.reason, error.of_write) in counted)


@pytest.mark.parametrize(
    "error", [it for it in ERRORS if it is NO_WRITE or not UNAVAILABLE.counts(it)], ids=str
)
def test_an_answered_error_ends_the_failures(clock: Clock, error: AuthError) -> None:
    breaker = Breaker(TARGET, clock)
    for _ in range(2):
        for _ in range(FAILURES - 1):
            fail(breaker)
        fail(breaker, error)
    assert not is_open(breaker)


def other(breaker: Breaker, error: AuthError | None = None) -> None:
    """A call whose failure may have another cause."""
    with breaker.other_call():
        if error is not None:
            raise error


def test_a_failure_that_may_have_another_cause_does_not_count(clock: Clock) -> None:
    breaker = Breaker(TARGET, clock)
    for _ in range(2 * FAILURES):
        with pytest.raises(AuthError):
            other(breaker, AWAY)
    assert not is_open(breaker)


@pytest.mark.parametrize("answer", [None, AuthError(Reason.TOKEN_EXPIRED), NO_WRITE], ids=str)
def test_any_answer_closes_it(opened: Breaker, clock: Clock, answer: AuthError | None) -> None:
    with pytest.raises(AuthError, match="last failure"):
        other(opened, answer)
    clock.advance(OPEN_SECONDS)
    with suppress(AuthError):
        other(opened, answer)
    fail(opened)
    assert not is_open(opened)


def test_a_call_that_may_fail_by_another_cause_is_no_probe(opened: Breaker, clock: Clock) -> None:
    clock.advance(OPEN_SECONDS)
    for _ in range(2):
        with pytest.raises(AuthError) as caught:
            other(opened, AWAY)
        assert caught.value is AWAY
    with opened.call(), pytest.raises(AuthError, match="last failure"):
        other(opened)


def test_a_cancelled_call_does_not_count(clock: Clock) -> None:
    breaker = Breaker(TARGET, clock)
    for _ in range(2 * FAILURES):
        fail(breaker, asyncio.CancelledError())
    assert not is_open(breaker)


def test_one_call_probes_for_all(opened: Breaker, clock: Clock) -> None:
    assert is_open(opened)
    clock.advance(OPEN_SECONDS)
    with opened.call():
        assert is_open(opened)
    assert not is_open(opened)


def test_it_stays_open_while_probes_fail(opened: Breaker, clock: Clock) -> None:
    for _ in range(3):
        clock.advance(OPEN_SECONDS)
        fail(opened)
        assert is_open(opened)


def test_a_cancelled_probe_is_followed_by_another(opened: Breaker, clock: Clock) -> None:
    clock.advance(OPEN_SECONDS)
    fail(opened, asyncio.CancelledError())
    assert not is_open(opened)


def test_late_failures_do_not_keep_it_open(clock: Clock) -> None:
    late = Breaker(TARGET, clock)
    calls = [late.call() for _ in range(FAILURES + 1)]
    for call in calls:
        call.__enter__()
    for call in calls[1:]:
        call.__exit__(AuthError, AWAY, None)
    clock.advance(OPEN_SECONDS / 2)
    assert is_open(late)
    calls[0].__exit__(AuthError, AWAY, None)
    clock.advance(OPEN_SECONDS / 2)
    assert not is_open(late)


def test_each_change_is_logged_once(
    opened: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with caplog.at_level("INFO"):
        for _ in range(3):
            clock.advance(OPEN_SECONDS)
            fail(opened)
            is_open(opened)
        clock.advance(OPEN_SECONDS)
        for _ in range(3):
            is_open(opened)
        for _ in range(FAILURES + 3):
            fail(opened)
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    for record in caplog.records:
        assert f"authsvc at {TARGET}" in record.getMessage()
        assert record.__dict__["target"] == TARGET


def test_it_says_when_to_retry(opened: Breaker) -> None:
    with pytest.raises(AuthError) as caught, opened.call():
        pass
    assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
    assert caught.value.retry_after_seconds == pytest.approx(OPEN_SECONDS)
