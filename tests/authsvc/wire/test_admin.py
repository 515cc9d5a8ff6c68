"""Events and filters are the same after a round trip through messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.domain.revocation import NotBefore
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import admin as admin_wire
from tests.authsvc.admin.office import record
from tests.support.clock import START


@pytest.mark.parametrize(
    "event",
    [
        SessionEvent(EventType.CREATED, START, record("s")),
        SessionEvent(EventType.REVOKED, START + 5, record("s", revoke_time=START + 5)),
        SessionEvent(EventType.EXPIRED, START, record("s", subject="")),
        SessionEvent(EventType.TOKENS_REVOKED, START, not_before=NotBefore(START - 1, START)),
        SessionEvent(
            EventType.TOKENS_REVOKED, START, not_before=NotBefore(START - 1, START, "idp", "alice")
        ),
        SessionEvent(
            EventType.TOKENS_REVOKED,
            START,
            not_before=NotBefore(START - 1, START, "idp", provider_session="digest"),
        ),
        SessionEvent(
            EventType.TOKENS_REVOKED,
            START,
            not_before=NotBefore(
                START - 1, START, "idp", "alice", provider_session=NO_PROVIDER_SESSION
            ),
        ),
    ],
)
def test_an_event_survives_the_wire_but_for_digests(event: SessionEvent) -> None:
    message = admin_wire.event_message("7", event)
    assert message.resume_token == "7"
    assert b"dddd" not in message.SerializeToString()
    told = event.record and replace(
        event.record,
        grants={name: replace(grant, digest=b"") for name, grant in event.record.grants.items()},
    )
    assert admin_wire.event_of(message) == replace(event, record=told)


@pytest.mark.parametrize("authenticated", [None, True, False])
def test_a_filter_survives_the_wire(authenticated: bool | None) -> None:
    which = RecordFilter("idp", "alice", authenticated, "https://a.example/mcp")
    assert admin_wire.filter_of(admin_wire.filter_message(which)) == which


def test_an_event_of_a_later_version_is_skipped() -> None:
    message = pb.WatchSessionsResponse(resume_token="7", type=pb.SessionEventType.ValueType(99))
    assert admin_wire.event_of(message) is None
