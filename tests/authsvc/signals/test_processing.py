"""Signals become revocations: durable, once, and of those whom a stream may name."""

from __future__ import annotations

import asyncio

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import Record
from authsvc.domain.revocation import END_OF_TIME, NotBefore
from authsvc.resolver.fairness import PassLimiter
from authsvc.signals.actions import Action, actions_of
from authsvc.signals.errors import SignalError
from authsvc.signals.observing import SignalResult
from authsvc.signals.processing import MAX_SESSIONS, MAX_TARGETS, SignalProcessor
from authsvc.signals.signals import Stream
from authsvc.signals.verification import SignatureVerifier
from authsvc.tokens.keys import KeySet
from tests.authsvc.signals.desk import Desk, Seen
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.signals import ALICE, CAEP, RISC, Sender
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

REVOKED, NONE, UNKNOWN = SignalResult.REVOKED, SignalResult.NONE, SignalResult.UNKNOWN_SUBJECT
DIGEST = session_digest(ISSUER, "s1")
OF_ALICE = (ISSUER, "alice", "", "")
WITHOUT_SESSION = (ISSUER, "alice", "", NO_PROVIDER_SESSION)
OF_SESSION = (ISSUER, "", "", DIGEST)


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def desk(clock: Clock, sender: Sender) -> Desk:
    return Desk(clock, sender.stream())


async def test_a_logout_by_sid_and_sub(desk: Desk, sender: Sender) -> None:
    """Tokens without ``sid`` may be of the session. Those of other sessions are not."""
    assert await desk.receive_logout(sender.logout_token()) == [REVOKED]
    assert desk.keys == [WITHOUT_SESSION, OF_SESSION]


async def test_a_logout_by_sid_alone(desk: Desk, sender: Sender) -> None:
    assert await desk.receive_logout(sender.logout_token(sub=None)) == [REVOKED]
    assert desk.keys == [OF_SESSION]


async def test_a_logout_by_sub_alone(desk: Desk, sender: Sender) -> None:
    assert await desk.receive_logout(sender.logout_token(sid=None)) == [REVOKED]
    assert desk.keys == [OF_ALICE]


async def test_events_do_what_the_settings_say(clock: Clock, sender: Sender) -> None:
    actions = {"logout": Action.SUBJECT, "session-revoked": Action.NONE, "opt-in": Action.SUBJECT}
    desk = Desk(clock, sender.stream(), actions=actions)
    assert await desk.receive_logout(sender.logout_token()) == [REVOKED]
    assert await desk.receive_set(sender.security_event_token()) == [NONE]
    text = sender.security_event_token(event_type=f"{RISC}opt-in")
    assert await desk.receive_set(text) == [REVOKED]
    assert desk.keys == [OF_ALICE, OF_ALICE]


async def test_a_set_with_several_events(desk: Desk, sender: Sender) -> None:
    bob = {**ALICE, "sub": "bob"}
    events = {
        f"{CAEP}session-revoked": {"subject": {"user": ALICE, "session": {}}},
        f"{RISC}account-enabled": {"subject": bob},
        f"{RISC}account-disabled": {"subject": bob},
        f"{CAEP}credential-change": {"subject": {"format": "email", "email": "a@example.com"}},
        f"{CAEP}token-claims-change": {
            "subject": {"format": "jwt_id", "iss": ISSUER, "jti": "j1"},
        },
        "https://elsewhere.example/event": {"subject": ALICE},
    }
    text = sender.security_event_token(events=events, sub_id=None)
    assert await desk.receive_set(text) == [REVOKED, NONE, REVOKED, UNKNOWN, REVOKED, NONE]
    assert desk.keys == [OF_ALICE, (ISSUER, "bob", "", ""), (ISSUER, "", "j1", "")]
    assert desk.store.not_befores[-1].time == END_OF_TIME


async def test_events_about_the_stream_revoke_nothing(desk: Desk, sender: Sender) -> None:
    prefix = "https://schemas.openid.net/secevent/ssf/event-type/"
    for name, event in (("verification", {"state": "x"}), ("stream-updated", {"status": "paused"})):
        text = sender.security_event_token(event_type=f"{prefix}{name}", event=event)
        assert await desk.receive_set(text) == [NONE]
        assert desk.seen.effects[-1][0] == name
    assert desk.keys == []


async def test_another_issuers_subject_is_nobody(clock: Clock, sender: Sender) -> None:
    other = Sender("https://other.example")
    desk = Desk(clock, sender.stream(), other.stream())
    text = other.security_event_token(sub_id=ALICE)
    assert await desk.receive_set(text) == [UNKNOWN]
    session = {"user": ALICE, "session": {"format": "opaque", "id": "s1"}}
    assert await desk.receive_set(other.security_event_token(sub_id=session)) == [UNKNOWN]
    assert desk.keys == []


async def test_the_time_is_the_latest_that_is_known(desk: Desk, sender: Sender) -> None:
    """The sender's clock may be ahead, and a token of the same moment is revoked."""
    await desk.receive_set(sender.security_event_token(iat=START + 20))
    await desk.receive_set(sender.security_event_token(event={"event_timestamp": START + 25}))
    await desk.receive_set(sender.security_event_token(iat=START - 3_600, event={}))
    await desk.receive_logout(sender.logout_token(iat=START + 10, sub=None))
    assert [it.time for it in desk.store.not_befores] == [START + 20, START + 25, START, START + 10]
    assert {it.set_time for it in desk.store.not_befores} == {START}


async def test_a_repeated_set_is_accepted_without_effect(
    desk: Desk, sender: Sender, clock: Clock
) -> None:
    text = sender.security_event_token()
    assert await desk.receive_set(text) == [REVOKED]
    clock.advance(60)
    received = await desk.processor.receive_set(text, client_address="")
    assert received.is_repeated
    assert desk.store.not_befores == [NotBefore(START, START, ISSUER, "alice")]
    assert desk.seen.results == [REVOKED, SignalResult.REPEATED]
    # Another signature of the same token is the same token.
    again = sender.security_event_token(jti="signal-1", txn="other")
    assert await desk.receive_set(again) == [SignalResult.REPEATED]


async def test_a_repeated_logout_is_rejected(desk: Desk, sender: Sender, clock: Clock) -> None:
    text = sender.logout_token()
    assert await desk.receive_logout(text) == [REVOKED]
    clock.advance(60)
    with pytest.raises(SignalError, match="invalid_request: The token has been received before"):
        await desk.receive_logout(text)
    assert [it.time for it in desk.store.not_befores] == [START, START]
    assert desk.seen.results == [REVOKED, SignalResult.REPEATED]


async def test_a_key_is_kept_for_as_long_as_its_token_is_accepted(
    desk: Desk, sender: Sender, clock: Clock
) -> None:
    text = sender.security_event_token(iat=START + 30)
    await desk.receive_set(text)
    clock.advance(86_459)
    await desk.store.sweep(clock() + 299)  # of a replica whose clock is ahead
    assert await desk.receive_set(text) == [SignalResult.REPEATED]
    clock.advance(1)
    with pytest.raises(SignalError, match="too long ago"):
        await desk.receive_set(text)


@pytest.mark.parametrize("method", ["is_received", "set_not_before", "mark_received"])
async def test_what_fails_is_sent_again(desk: Desk, sender: Sender, method: str) -> None:
    """No effect is acknowledged before it is durable, and none is lost by a repeat."""
    text, logout = sender.security_event_token(), sender.logout_token()
    desk.store.failing.add(method)
    for receive in (desk.receive_set(text), desk.receive_logout(logout)):
        with pytest.raises(AuthError) as caught:
            await receive
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert [issuer for issuer, _ in desk.seen.unavailable_for] == [ISSUER, ISSUER]
    assert desk.seen.effects == []
    desk.store.failing.clear()
    desk.store.not_befores.clear()
    assert await desk.receive_set(text) == [REVOKED]
    assert await desk.receive_logout(logout) == [REVOKED]
    assert desk.keys == [OF_ALICE, WITHOUT_SESSION, OF_SESSION]


async def test_a_failure_between_two_events_is_repeated_in_full(desk: Desk, sender: Sender) -> None:
    bob = {**ALICE, "sub": "bob"}
    events = {
        f"{RISC}account-disabled": {"subject": ALICE},
        f"{RISC}account-purged": {"subject": bob},
    }
    text = sender.security_event_token(events=events, sub_id=None)
    write = desk.store.set_not_before

    async def once(not_before: NotBefore) -> str:
        if desk.keys:
            raise AuthError(Reason.STORE_UNAVAILABLE)
        return await write(not_before)

    desk.store.set_not_before = once  # type: ignore[method-assign] # of this test
    with pytest.raises(AuthError):
        await desk.receive_set(text)
    assert desk.keys == [OF_ALICE]
    desk.store.set_not_before = write  # type: ignore[method-assign] # as it was
    assert await desk.receive_set(text) == [REVOKED, REVOKED]
    assert desk.keys == [OF_ALICE, OF_ALICE, (ISSUER, "bob", "", "")]


async def test_one_token_does_not_write_for_ever(clock: Clock, sender: Sender) -> None:
    users = [{**ALICE, "sub": f"u{n}"} for n in range(16)]
    aliases = {"format": "aliases", "identifiers": users}
    names = ("account-disabled", "account-purged", "credential-compromise", "sessions-revoked")
    events: dict[str, object] = {f"{RISC}{name}": {} for name in names}
    desk = Desk(clock, sender.stream())
    text = sender.security_event_token(events=events, sub_id=aliases)
    assert await desk.receive_set(text) == [REVOKED] * 4
    assert len(desk.keys) == MAX_TARGETS
    events[f"{CAEP}session-revoked"] = {}
    with pytest.raises(SignalError, match="too many subjects"):
        await desk.receive_set(sender.security_event_token(events=events, sub_id=aliases))
    assert len(desk.keys) == MAX_TARGETS


@pytest.mark.parametrize("sid", [None, "s1"])
async def test_a_subject_may_have_any_number_of_sessions(
    desk: Desk, sender: Sender, clock: Clock, sid: str | None
) -> None:
    """A user opens them, and signs out: each read takes time of everyone's."""
    for number in range(MAX_SESSIONS + 10):
        held = Record(f"s{number}", 1, START, START, START + 60, ISSUER, "alice")
        await desk.store.put(held, EventType.CREATED)
    await desk.receive_logout(sender.logout_token(sid=sid))
    assert desk.store.records_read == MAX_SESSIONS + 1
    assert {it.time for it in desk.store.not_befores} == {START}


async def test_rejected_signals_are_observed(desk: Desk, sender: Sender) -> None:
    texts = {
        Sender().security_event_token(): ISSUER,
        sender.security_event_token(aud="x"): ISSUER,
        sender.security_event_token(iss="https://other.example"): "",
        sender.security_event_token(iss=7): "",
        "a.b.c": "",
        "é.b.c": "",
        "x": "",
        sender.security_event_token(filler="x" * 70_000): "",
    }
    for text in texts:
        with pytest.raises(SignalError):
            await desk.receive_set(text)
    assert [issuer for issuer, _, _ in desk.seen.rejections] == list(texts.values())
    assert {address for _, _, address in desk.seen.rejections} == {"192.0.2.7"}
    assert desk.keys == []


async def test_the_seconds_until_an_effect_is_durable(
    desk: Desk, sender: Sender, clock: Clock
) -> None:
    mark = desk.store.mark_received

    async def slow(key: str, until: float) -> None:
        clock.advance(0.25)
        await mark(key, until)

    desk.store.mark_received = slow  # type: ignore[method-assign] # of this test
    await desk.receive_set(sender.security_event_token())
    assert [effect.seconds for _, effect in desk.seen.effects] == [0.25]


class Counted:
    """Keys that note the pass of the event loop in which each token asks for them."""

    failure = ""
    clock_offset_seconds = None

    def __init__(self, keys: KeySet | None) -> None:
        self._keys = keys
        self.current_pass = 0
        self.passes: list[int] = []
        self.refreshed = 0

    def current(self, now: float) -> KeySet:
        self.passes.append(self.current_pass)
        if self._keys is None:
            raise AuthError(Reason.KEYS_UNAVAILABLE)
        return self._keys

    async def renew(self, now: float) -> bool:
        return False

    async def refresh(self, now: float) -> None:
        self.refreshed += 1


def processor_of(desk: Desk, keys: Counted) -> SignalProcessor:
    stream = Stream(ISSUER, keys, ("https://authsvc.example/signals",), (ISSUER,))
    return SignalProcessor(
        SignatureVerifier([stream], fairness=PassLimiter()),
        revocations=None,  # type: ignore[arg-type] # none of these revokes
        store=desk.store,
        actions=actions_of({}),
        observers=[Seen()],
        clock=desk.clock,
    )


async def test_a_flood_of_forged_signals_lets_the_loop_pass(desk: Desk, sender: Sender) -> None:
    """One signature is checked in each pass of the event loop: resolves run in between."""
    keys = Counted(sender.keys)
    processor = processor_of(desk, keys)
    forged = [Sender().security_event_token() for _ in range(3)] * 10
    receiving = [
        asyncio.ensure_future(processor.receive_set(text, client_address="")) for text in forged
    ]

    async def passing() -> None:
        while not all(it.done() for it in receiving):
            keys.current_pass += 1
            await asyncio.sleep(0)

    await asyncio.wait_for(passing(), TIMEOUT_SECONDS)
    assert all(isinstance(it.exception(), SignalError) for it in receiving)
    assert len(keys.passes) == len(forged)
    assert len(set(keys.passes)) == len(keys.passes)


async def test_keys_are_refreshed(desk: Desk, sender: Sender) -> None:
    for keys, available in ((Counted(sender.keys), True), (Counted(None), False)):
        assert await processor_of(desk, keys).refresh(START) is available
        assert keys.refreshed == 1
    assert await desk.processor.refresh(START)


async def test_keys_that_are_unavailable_have_a_signal_sent_again(
    desk: Desk, sender: Sender
) -> None:
    processor = processor_of(desk, Counted(None))
    for receive in (processor.receive_set, processor.receive_logout):
        text = sender.security_event_token()
        if receive == processor.receive_logout:
            text = sender.logout_token()
        with pytest.raises(AuthError) as caught:
            await receive(text, client_address="")
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE
