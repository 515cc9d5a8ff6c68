"""The audit of signals: complete, and without what would be a secret."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from authsvc.audit.security import SecurityEvent
from authsvc.domain.errors import AuthError
from authsvc.domain.provider_session import session_digest
from authsvc.signals.auditing import REJECTED_BURST, WARNINGS_BURST
from authsvc.signals.errors import SignalError, SignalErrorCode
from tests.authsvc.signals.desk import Desk
from tests.support.clock import Clock
from tests.support.signals import ALICE, RISC, Sender
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

SID = "a-session-of-alice"
DIGEST = session_digest(ISSUER, SID)[:8]
CALLER = f"signals[{ISSUER}]"
ALONE = ", alone: tokens without one are not ended"
OF_STREAM = {"caller": CALLER, "issuer": ISSUER, "client_address": "192.0.2.7"}


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def desk(clock: Clock, sender: Sender, caplog: pytest.LogCaptureFixture) -> Desk:
    caplog.set_level("INFO")
    return Desk(clock, sender.stream())


def events(caplog: pytest.LogCaptureFixture, *types: str) -> list[dict[str, str]]:
    """The events of these types, without their type and their empty fields."""
    names = [item.name for item in dataclasses.fields(SecurityEvent)]
    return [
        {
            name: str(record.__dict__[name])
            for name in names
            if record.__dict__[name] and name != "event_type"
        }
        for record in caplog.records
        if record.name == "authsvc.security" and record.__dict__["event_type"] in types
    ]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.name == "authsvc.signals.auditing"]


async def test_a_logout(desk: Desk, sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    text = sender.logout_token(sid=SID)
    await desk.receive_logout(text)
    with pytest.raises(SignalError):
        await desk.receive_logout(text)
    await desk.receive_logout(sender.logout_token(sid=SID, sub=None))
    more = ", and tokens of the subject without one"
    assert events(caplog, "SIGNAL_RECEIVED") == [
        {
            **OF_STREAM,
            "subject": "alice",
            "token_id": "signal-1",
            "detail": f"logout (session): revoked provider session {DIGEST} at {ISSUER}{more}",
        },
        {
            **OF_STREAM,
            "subject": "alice",
            "token_id": "signal-1",
            "detail": "logout (session): received before, without effect",
        },
        {
            **OF_STREAM,
            "token_id": "signal-2",
            "detail": f"logout (session): revoked provider session {DIGEST} at {ISSUER}{ALONE}",
        },
    ]
    assert {it["caller"] for it in events(caplog, "TOKENS_REVOKED")} == {CALLER}
    assert len(events(caplog, "TOKENS_REVOKED")) == 3
    shown = [str(record.__dict__) for record in caplog.records]
    assert not any(SID in it or text in it for it in shown)


@pytest.mark.parametrize(
    ("event_type", "subject", "detail"),
    [
        ("account-disabled", ALICE, f"(subject): revoked all tokens of the subject at {ISSUER}"),
        (
            "account-disabled",
            {"format": "jwt_id", "iss": ISSUER, "jti": "j1"},
            f"(subject): revoked token j1 at {ISSUER}",
        ),
        ("account-enabled", ALICE, "(none): nothing"),
        (
            "account-disabled",
            {**ALICE, "iss": "https://other.example"},
            f"(subject): signals.streams[{ISSUER}].applies_to has no 'https://other.example'",
        ),
        (
            "account-disabled",
            {"format": "email", "email": "alice@example.com"},
            "(subject): subject_formats has no 'email': it may not be the tokens' subject",
        ),
    ],
    ids=str,
)
async def test_a_set(
    desk: Desk,
    sender: Sender,
    caplog: pytest.LogCaptureFixture,
    event_type: str,
    subject: object,
    detail: str,
) -> None:
    text = sender.security_event_token(event_type=f"{RISC}{event_type}", sub_id=subject)
    await desk.receive_set(text)
    (event,) = events(caplog, "SIGNAL_RECEIVED")
    assert event["detail"] == f"{event_type} {detail}"
    has_no_effect = "revoked" not in detail and "nothing" not in detail
    assert warnings(caplog) == (
        [f"{CALLER}: {event_type} had no effect: {detail.partition(': ')[2]}"]
        if has_no_effect
        else []
    )


async def test_an_event_that_is_not_known_here(
    desk: Desk, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    uri = "https://schemas.example/" + "x" * 1_000
    await desk.receive_set(sender.security_event_token(event_type=uri))
    (event,) = events(caplog, "SIGNAL_RECEIVED")
    assert event["detail"] == f"{uri[:128]!r} (none): nothing"


async def test_a_session_whose_user_is_not_understood(
    desk: Desk, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's tokens without a session stay valid, which a setting would mend."""
    user = {"format": "email", "email": "alice@example.com"}
    subject = {"user": user, "session": {"format": "opaque", "id": SID}}
    await desk.receive_set(sender.security_event_token(sub_id=subject))
    fault = "subject_formats has no 'email': it may not be the tokens' subject"
    what = f"revoked provider session {DIGEST} at {ISSUER}{ALONE}; {fault}"
    (event,) = events(caplog, "SIGNAL_RECEIVED")
    assert event["detail"] == f"session-revoked (session): {what}"
    assert warnings(caplog) == [f"{CALLER}: session-revoked: {what}"]


async def test_what_the_endpoint_rejects_and_refuses(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    error = SignalError(SignalErrorCode.AUTHENTICATION_FAILED, "No.", setting="here")
    desk.processor.reject(ISSUER, error, client_address="192.0.2.7")
    assert events(caplog, "SIGNAL_REJECTED") == [
        {
            "detail": f"authentication_failed: No.; claimed issuer {ISSUER}",
            "setting": "here",
            "client_address": "192.0.2.7",
        }
    ]
    assert [it[0] for it in desk.seen.rejections] == [ISSUER]
    desk.processor.refuse("requests_per_second", client_address="192.0.2.7")
    (refused,) = events(caplog, "LIMIT_REACHED")
    assert refused["setting"] == "signals.requests_per_second"
    assert refused["client_address"] == "192.0.2.7"


async def test_a_rejected_signal(
    desk: Desk, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (
        sender.security_event_token(aud="x"),
        sender.security_event_token(iss="https://other.example", jti="secret"),
    ):
        with pytest.raises(SignalError):
            await desk.receive_set(text)
    found = events(caplog, "SIGNAL_REJECTED")
    assert [it["setting"] for it in found] == [
        f"signals.streams[{ISSUER}].audiences",
        "signals.streams",
    ]
    assert found[0]["detail"].startswith("invalid_audience: aud 'x', expected ")
    assert found[0]["detail"].endswith(f"; claimed issuer {ISSUER}")
    assert found[1]["detail"] == "invalid_issuer: iss 'https://other.example' has no stream"
    assert {it["client_address"] for it in found} == {"192.0.2.7"}
    assert all(
        record.levelno == logging.WARNING
        for record in caplog.records
        if record.name == "authsvc.security"
    )


async def test_a_flood_does_not_fill_the_audit(
    desk: Desk, sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(int(REJECTED_BURST) + 5):
        with pytest.raises(SignalError):
            await desk.receive_set("x")
    assert len(events(caplog, "SIGNAL_REJECTED")) == REJECTED_BURST
    clock.advance(1)
    with pytest.raises(SignalError):
        await desk.receive_set("x")
    assert len(events(caplog, "SIGNAL_REJECTED")) == REJECTED_BURST + 1


async def test_warnings_are_few(
    desk: Desk, sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    desk.store.failing.add("is_received")
    for _ in range(int(WARNINGS_BURST) + 5):
        with pytest.raises(AuthError):
            await desk.receive_set(sender.security_event_token())
    expected = f"{CALLER}: not processed, to be sent again: STORE_UNAVAILABLE"
    assert warnings(caplog) == [expected] * int(WARNINGS_BURST)
    clock.advance(60)
    desk.store.failing.clear()
    # Each is audited all the same, and shows no character that a terminal obeys.
    for _ in range(3):
        text = sender.security_event_token(sub_id={"format": "\x1b[2J"})
        await desk.receive_set(text)
    assert len(warnings(caplog)) == WARNINGS_BURST + 1
    assert warnings(caplog)[-1].isprintable()
    assert len(events(caplog, "SIGNAL_RECEIVED")) == 3
