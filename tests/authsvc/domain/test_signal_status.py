"""The status of a stream: what two replicas know together, and what is a problem."""

from __future__ import annotations

import pytest

from authsvc.domain.signal_status import (
    FAILURE_SECONDS,
    MAX_VERIFICATIONS,
    StreamChange,
    StreamEvent,
    StreamFailure,
    StreamState,
    StreamStatus,
    StreamVerification,
    state_digest,
)

ISSUER = "https://idp.example"
OLD = StreamStatus(
    ISSUER,
    True,
    StreamChange(1.0, StreamState.PAUSED, "maintenance"),
    StreamEvent(1.0, "logout", "revoked"),
    StreamFailure(1.0, "a"),
    StreamFailure(1.0, "b"),
    1.0,
    StreamFailure(1.0, "c"),
    (StreamVerification(1.0, "x"),),
)
NEW = StreamStatus(
    ISSUER,
    True,
    StreamChange(2.0, StreamState.ENABLED),
    StreamEvent(2.0, "session-revoked", "none"),
    StreamFailure(2.0, "d"),
    StreamFailure(2.0, "e"),
    2.0,
    StreamFailure(2.0, "f"),
    (StreamVerification(2.0, "y"),),
)


def test_of_everything_the_newest_is_known() -> None:
    both = NEW.merged(OLD)
    assert both == OLD.merged(NEW)
    assert both.verifications == (*NEW.verifications, *OLD.verifications)
    assert (both.change, both.last_event, both.last_poll_time) == (
        NEW.change,
        NEW.last_event,
        2.0,
    )
    assert (both.last_rejection, both.last_failure, both.poll_failure) == (
        NEW.last_rejection,
        NEW.last_failure,
        NEW.poll_failure,
    )
    nothing = StreamStatus(ISSUER, True)
    assert nothing.merged(OLD) == OLD == OLD.merged(nothing)


def test_the_newest_verifications_are_kept() -> None:
    many = tuple(StreamVerification(float(time), str(time)) for time in range(10))
    kept = StreamStatus(ISSUER, verifications=many).merged(StreamStatus(ISSUER)).verifications
    assert [it.time for it in kept] == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    assert len(kept) == MAX_VERIFICATIONS


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (StreamStatus(ISSUER), ""),
        (StreamStatus(ISSUER, last_rejection=StreamFailure(100.0, "anybody's")), ""),
        (
            StreamStatus(ISSUER, change=StreamChange(1.0, StreamState.DISABLED)),
            "its transmitter has disabled it",
        ),
        (
            StreamStatus(ISSUER, change=StreamChange(1.0, StreamState.PAUSED)),
            "its transmitter has paused it",
        ),
        (StreamStatus(ISSUER, change=StreamChange(1.0, StreamState.ENABLED)), ""),
        (StreamStatus(ISSUER, True, poll_failure=StreamFailure(1.0, "503")), "polls fail"),
        (
            StreamStatus(ISSUER, True, last_poll_time=0.5, poll_failure=StreamFailure(1.0, "503")),
            "polls fail",
        ),
        (StreamStatus(ISSUER, True, last_poll_time=1.0, poll_failure=StreamFailure(1.0, "")), ""),
        # It is polled no longer.
        (StreamStatus(ISSUER, poll_failure=StreamFailure(1.0, "503")), ""),
        (
            StreamStatus(ISSUER, last_failure=StreamFailure(100.0, "store")),
            "signals could not be processed",
        ),
        (StreamStatus(ISSUER, last_failure=StreamFailure(99.0 - FAILURE_SECONDS, "store")), ""),
        (
            StreamStatus(
                ISSUER,
                last_event=StreamEvent(99.0, "logout", "revoked"),
                last_failure=StreamFailure(100.0, "store"),
            ),
            "signals could not be processed",
        ),
        (
            StreamStatus(
                ISSUER,
                last_event=StreamEvent(100.0, "logout", "revoked"),
                last_failure=StreamFailure(100.0, "store"),
            ),
            "",
        ),
    ],
)
def test_problems(status: StreamStatus, problem: str) -> None:
    assert status.problem(100.0) == problem


def test_the_digest_of_a_state() -> None:
    assert state_digest("abc") == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"  # RFC 6234
    assert len(state_digest("\ud800")) == 43
