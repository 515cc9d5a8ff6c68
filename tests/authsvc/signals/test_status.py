"""The status of streams: fed by signals and polls, shared by replicas in the store."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.signal_status import StreamChange, StreamState, StreamStatus, state_digest
from authsvc.signals.errors import SignalError
from authsvc.signals.status import (
    MAX_TEXT_LENGTH,
    POLL_SECONDS,
    SignalStatuses,
    document_name,
)
from authsvc.stores.documents import Document
from tests.authsvc.signals.desk import Desk, Store
from tests.support.clock import START, Clock
from tests.support.signals import SESSION_REVOKED, SSF, Sender
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

VERIFICATION = f"{SSF}verification"
STREAM_UPDATED = f"{SSF}stream-updated"
ABOUT_THE_STREAM = {"format": "opaque", "id": "stream-1"}


class Documents(Store):
    """A store of documents that fails, or is raced, when a test says so; counts writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.races = 0

    async def document(self, name: str) -> Document | None:
        self._check("document")
        return await super().document(name)

    async def put_document(self, name: str, document: Document) -> bool:
        self._check("put_document")
        self.writes += 1
        if self.races:
            self.races -= 1
            return False
        return await super().put_document(name, document)


class Replica:
    """A processor whose signals are noted, with a store that others may share."""

    def __init__(
        self, clock: Clock, store: Documents, sender: Sender, *, is_polled: bool = False
    ) -> None:
        self.store = store
        self.sender = sender
        self.statuses = SignalStatuses({sender.issuer: is_polled}, store, clock)
        self.desk = Desk(clock, sender.stream())
        self.desk.processor._observers = (self.statuses,)

    async def receive(
        self,
        event_type: str,
        event: object,
        **claims: Any,  # noqa: ANN401 - any JSON value
    ) -> str:
        """Have a SET received; it is returned."""
        if event_type.startswith(SSF):
            claims["sub_id"] = ABOUT_THE_STREAM
        text = self.sender.security_event_token(event_type=event_type, event=event, **claims)
        await self.desk.receive_set(text)
        return text

    async def status(self) -> StreamStatus:
        (status,) = await self.statuses.read()
        return status


@pytest.fixture
def store() -> Documents:
    return Documents()


@pytest.fixture
def replica(clock: Clock, store: Documents) -> Replica:
    return Replica(clock, store, Sender())


async def test_nothing_has_come_yet(replica: Replica) -> None:
    assert await replica.status() == StreamStatus(ISSUER)
    await replica.statuses.write()
    assert replica.store.writes == 0


async def test_an_event_is_noted(replica: Replica, clock: Clock) -> None:
    clock.advance(5)
    await replica.receive(SESSION_REVOKED, {})
    event = (await replica.status()).last_event
    assert event is not None
    assert (event.time, event.name, event.result) == (START + 5, "session-revoked", "revoked")


async def test_every_replica_shows_what_one_has_received(clock: Clock, store: Documents) -> None:
    sender = Sender()
    one, other = Replica(clock, store, sender), Replica(clock, store, sender)
    await one.receive(VERIFICATION, {"state": "s1"})
    await one.statuses.write()
    clock.advance(1)
    await other.receive(VERIFICATION, {"state": "s2"})
    assert [it.state_digest for it in (await other.status()).verifications] == [
        state_digest("s2"),
        state_digest("s1"),
    ]
    await other.statuses.write()
    assert await one.status() == await other.status()
    # What a replica has received is not lost to what another one writes.
    clock.advance(1)
    await one.receive(SESSION_REVOKED, {})
    await one.statuses.write()
    status = await Replica(clock, store, sender).status()
    assert len(status.verifications) == 2
    assert status.last_event is not None
    assert status.last_event.name == "session-revoked"


async def test_what_is_written_is_not_written_again(replica: Replica) -> None:
    await replica.receive(SESSION_REVOKED, {})
    for _ in range(100):
        with suppress(SignalError):
            await replica.desk.receive_set(Sender().security_event_token())
    for _ in range(3):
        await replica.statuses.write()
    assert replica.store.writes == 1


async def test_what_others_have_written_is_not_written_again(
    clock: Clock, store: Documents
) -> None:
    sender = Sender()
    one, other = Replica(clock, store, sender), Replica(clock, store, sender)
    for replica in (one, other):
        replica.statuses.unavailable(ISSUER, AuthError(Reason.KEYS_UNAVAILABLE))
        await replica.statuses.write()
    assert store.writes == 1


@pytest.mark.parametrize("method", ["document", "put_document"])
async def test_an_outage_of_the_store_fails_no_signal_and_loses_no_status(
    replica: Replica, clock: Clock, method: str
) -> None:
    replica.store.failing = {method}
    await replica.receive(VERIFICATION, {"state": "s1"})
    await replica.statuses.write()
    replica.store.failing = set()
    await replica.statuses.write()
    fresh = Replica(clock, replica.store, replica.sender)
    assert [it.state_digest for it in (await fresh.status()).verifications] == [state_digest("s1")]


async def test_a_status_that_cannot_be_read_is_no_status(replica: Replica) -> None:
    replica.store.failing = {"document"}
    with pytest.raises(AuthError, match="STORE_UNAVAILABLE"):
        await replica.status()


async def test_lost_races_are_repeated(replica: Replica) -> None:
    await replica.receive(SESSION_REVOKED, {})
    replica.store.races = 1
    await replica.statuses.write()
    assert replica.store.writes == 2
    await replica.receive(VERIFICATION, {"state": "s1"})
    replica.store.races = 4
    await replica.statuses.write()
    assert replica.store.writes == 6
    # It is not written yet, and is with the next call.
    await replica.statuses.write()
    assert replica.store.writes == 7
    stored = await replica.store.document(document_name(await replica.status()))
    assert stored is not None
    assert state_digest("s1") in stored.content.decode()


async def test_a_replayed_token_changes_nothing(replica: Replica, clock: Clock) -> None:
    disabled = await replica.receive(STREAM_UPDATED, {"status": "disabled"})
    clock.advance(10)
    await replica.receive(
        STREAM_UPDATED, {"status": "enabled", "event_timestamp": int(clock())}, iat=clock()
    )
    before = await replica.status()
    assert before.state is StreamState.ENABLED
    clock.advance(10)
    assert [it.value for it in await replica.desk.receive_set(disabled)] == ["repeated"]
    assert await replica.status() == before


async def test_the_newest_change_counts_whatever_the_order(replica: Replica, clock: Clock) -> None:
    clock.advance(10)
    await replica.receive(STREAM_UPDATED, {"status": "enabled"}, iat=START + 5)
    await replica.receive(STREAM_UPDATED, {"status": "paused", "reason": "late"}, iat=START)
    assert (await replica.status()).change == StreamChange(START + 5, StreamState.ENABLED)


@pytest.mark.parametrize("status", ["paused", "disabled"])
async def test_a_later_event_shows_that_a_stream_is_enabled_again(
    clock: Clock, store: Documents, status: str
) -> None:
    sender = Sender()
    one, other = Replica(clock, store, sender), Replica(clock, store, sender)
    await one.receive(STREAM_UPDATED, {"status": status})
    await one.statuses.write()
    await other.statuses.refresh()
    # In time, these are before the change, or are sent although the stream is not enabled.
    await other.receive(SESSION_REVOKED, {}, iat=START - 1)
    await other.receive(SESSION_REVOKED, {}, iat=START)
    clock.advance(1)
    await other.receive(VERIFICATION, {"state": "s1"}, iat=clock())
    await other.desk.receive_logout(sender.logout_token(sid="sid-1", iat=clock()))
    assert (await other.status()).state.name == status.upper()
    await other.receive(SESSION_REVOKED, {}, iat=clock())
    assert (await other.status()).change == StreamChange(START + 1, StreamState.ENABLED)
    await other.statuses.write()
    assert (await one.status()).state is StreamState.ENABLED


async def test_what_is_known_is_what_was_read_and_what_has_come_since(
    clock: Clock, store: Documents
) -> None:
    sender = Sender()
    one, other = Replica(clock, store, sender), Replica(clock, store, sender)
    await one.receive(STREAM_UPDATED, {"status": "paused"})
    await one.statuses.write()
    (before,) = other.statuses.known
    assert before.state is StreamState.ENABLED
    store.failing = {"document"}
    await other.statuses.refresh()
    assert other.statuses.known == (before,)
    store.failing = set()
    await other.statuses.refresh()
    (known,) = other.statuses.known
    assert known == await one.status()
    other.statuses.unavailable(ISSUER, AuthError(Reason.KEYS_UNAVAILABLE))
    store.failing = {"document"}
    await other.statuses.refresh()
    (known,) = other.statuses.known
    assert known.state is StreamState.PAUSED
    assert known.last_failure is not None


async def test_what_comes_during_a_read_is_known(replica: Replica) -> None:
    reading = replica.statuses.read()
    document = replica.store.document

    async def slow(name: str) -> Document | None:
        found = await document(name)
        replica.statuses.unavailable(ISSUER, AuthError(Reason.KEYS_UNAVAILABLE))
        return found

    replica.store.document = slow  # type: ignore[method-assign] # of this test's store alone
    (status,) = await reading
    assert status.last_failure is not None
    assert replica.statuses.known == (status,)


@pytest.mark.parametrize("event", [{}, {"status": "asleep"}, {"status": ["disabled"]}])
async def test_unknown_changes_are_none(replica: Replica, event: object) -> None:
    await replica.receive(STREAM_UPDATED, event)
    status = await replica.status()
    assert status.change is None
    assert status.last_event is not None


async def test_a_transmitters_reason_is_bounded_and_printable(replica: Replica) -> None:
    hostile = "\x1b[2J\u202e<script>" + "x" * 10_000
    await replica.receive(STREAM_UPDATED, {"status": "disabled", "reason": hostile})
    await replica.statuses.write()
    change = (await replica.status()).change
    assert change is not None
    assert change.state is StreamState.DISABLED
    assert change.reason.startswith(r"\x1b[2J\u202e<script>")
    assert change.reason.isprintable()
    assert len(change.reason) == MAX_TEXT_LENGTH
    await replica.receive(STREAM_UPDATED, {"status": "paused", "reason": {"no": "text"}})


async def test_a_verification_without_a_state(replica: Replica) -> None:
    await replica.receive(VERIFICATION, {})
    (verification,) = (await replica.status()).verifications
    assert (verification.time, verification.state_digest) == (START, "")


async def test_failures_are_in_our_words(replica: Replica) -> None:
    forged = Sender().security_event_token()
    for text in (forged, replica.sender.security_event_token(aud="somebody-secret")):
        with suppress(SignalError):
            await replica.desk.receive_set(text)
    rejection = (await replica.status()).last_rejection
    assert rejection is not None
    assert rejection.text == (
        "invalid_audience: The token is for another audience. "
        f"(setting: signals.streams[{ISSUER}].audiences)"
    )
    replica.desk.store.failing = {"is_received"}
    with pytest.raises(AuthError):
        await replica.receive(SESSION_REVOKED, {})
    failure = (await replica.status()).last_failure
    assert failure is not None
    assert "STORE_UNAVAILABLE" in failure.text


async def test_what_claims_to_be_of_no_stream_is_not_noted(replica: Replica) -> None:
    for text in (Sender("https://evil.example").security_event_token(), "nonsense"):
        with suppress(SignalError):
            await replica.desk.receive_set(text)
    await replica.statuses.write()
    assert await replica.status() == StreamStatus(ISSUER)
    assert replica.store.writes == 0


async def test_no_token_sid_or_subject_is_stored(replica: Replica) -> None:
    subject = {"format": "iss_sub", "iss": ISSUER, "sub": "alice@example.com"}
    text = await replica.receive(
        VERIFICATION,
        {"state": "state-secret"},
        jti="jti-secret",
        aud="https://authsvc.example/signals",
    )
    text += await replica.receive(SESSION_REVOKED, {"reason_admin": "alice"}, sub_id=subject)
    with suppress(SignalError):
        await replica.desk.receive_logout(replica.sender.logout_token(sid="sid-secret", nonce="n"))
    await replica.statuses.write()
    stored = await replica.store.document(document_name(await replica.status()))
    assert stored is not None
    content = stored.content.decode()
    for secret in ("secret", "alice", *text.split(".")):
        assert secret not in content


# Polls.


async def test_polls_are_noted_now_and_then(clock: Clock, store: Documents) -> None:
    replica = Replica(clock, store, Sender(), is_polled=True)
    for _ in range(int(POLL_SECONDS) + 1):
        replica.statuses.polled(ISSUER, "")
        await replica.statuses.write()
        clock.advance(1)
    assert store.writes == 2
    assert (await replica.status()).last_poll_time == START + POLL_SECONDS


async def test_a_poll_that_fails_and_one_that_succeeds_again_are_noted(
    clock: Clock, store: Documents
) -> None:
    replica = Replica(clock, store, Sender(), is_polled=True)
    replica.statuses.polled(ISSUER, "")
    clock.advance(1)
    replica.statuses.polled(ISSUER, "https://idp.example/poll: status 503\x1b")
    status = await replica.status()
    assert status.poll_failure is not None
    assert status.poll_failure.text == r"https://idp.example/poll: status 503\x1b"
    assert status.problem(clock()) == "polls fail"
    clock.advance(1)
    replica.statuses.polled(ISSUER, "")
    assert (await replica.status()).problem(clock()) == ""


# Documents.


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "change": [1]}'],
)
async def test_a_document_of_another_version_is_none(replica: Replica, content: bytes) -> None:
    name = document_name(await replica.status())
    assert await replica.store.put_document(name, Document(1, content))
    assert await replica.status() == StreamStatus(ISSUER)
    await replica.receive(SESSION_REVOKED, {})
    await replica.statuses.write()
    stored = await replica.store.document(name)
    assert stored is not None
    assert json.loads(stored.content)["last_event"]["name"] == "session-revoked"


async def test_documents_are_named_as_stores_require(replica: Replica) -> None:
    status = await replica.status()
    names = {document_name(status), document_name(replace(status, issuer="https://\ud800"))}
    assert len(names) == 2
    for name in names:
        prefix, _, digest = name.partition(".")
        assert (prefix, len(digest)) == ("signals", 43)
        assert digest.replace("-", "").replace("_", "").isalnum()
