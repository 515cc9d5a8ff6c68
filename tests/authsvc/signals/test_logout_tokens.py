"""Logout tokens: which are accepted, and what is read of them."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.signals.errors import SignalError
from authsvc.signals.logout_tokens import verify_logout
from authsvc.signals.security_event_tokens import verify_set
from authsvc.signals.signals import SignalToken
from authsvc.signals.subjects import Subject, User
from tests.support.clock import START
from tests.support.signals import CLIENT, LOGOUT_EVENT, SESSION_REVOKED, Sender, verifier_of
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

ALICE = (User(ISSUER, "alice"),)


async def received(
    text: str,
    sender: Sender,
    *,
    now: float = START,
    **stream: Any,  # noqa: ANN401 - any field
) -> SignalToken:
    return await verify_logout(verifier_of(sender.stream(**stream)), text, now)


@pytest.fixture
def sender() -> Sender:
    return Sender()


ACCEPTED: list[tuple[dict[str, Any], Subject]] = [
    ({}, Subject(ALICE, "s1")),
    ({"sid": None}, Subject(ALICE)),
    ({"sub": None}, Subject((), "s1")),
    ({"header": {"typ": "JWT"}}, Subject(ALICE, "s1")),
    ({"header": {"typ": None}}, Subject(ALICE, "s1")),
    ({"header": {"typ": "application/logout+jwt"}}, Subject(ALICE, "s1")),
    ({"aud": [CLIENT, "other"]}, Subject(ALICE, "s1")),
    ({"exp": None}, Subject(ALICE, "s1")),
    ({"exp": None, "iat": START - 629}, Subject(ALICE, "s1")),
    ({"exp": START - 29}, Subject(ALICE, "s1")),
    # Keycloak's, where a client has offline sessions revoked.
    (
        {"typ": "Logout", "events": {LOGOUT_EVENT: {}, "revoke_offline_access": True}},
        Subject(ALICE, "s1"),
    ),
    ({"events": {LOGOUT_EVENT: {"more": 1}}}, Subject(ALICE, "s1")),
    # Another event says nothing here.
    ({"events": {LOGOUT_EVENT: {}, SESSION_REVOKED: {}}, "sub_id": {}}, Subject(ALICE, "s1")),
]


@pytest.mark.parametrize(("changes", "subject"), ACCEPTED, ids=str)
async def test_accepted(sender: Sender, changes: dict[str, Any], subject: Subject) -> None:
    token = await received(sender.logout_token(**changes), sender)
    (signal,) = token.signals
    assert (signal.name, signal.subject) == ("logout", subject)
    assert signal.time == changes.get("iat", START)


REJECTED: list[tuple[dict[str, Any], str, str]] = [
    ({"nonce": "n"}, "invalid_request", "nonce"),
    ({"nonce": ""}, "invalid_request", "nonce"),
    ({"sub": None, "sid": None}, "invalid_request", "neither sub nor sid"),
    ({"sub": 7}, "invalid_request", "Claim sub"),
    ({"sub": ""}, "invalid_request", "Claim sub"),
    ({"sub": "a" * 256}, "invalid_request", "Claim sub"),
    ({"sid": ""}, "invalid_request", "Claim sid"),
    ({"sid": ["s1"]}, "invalid_request", "Claim sid"),
    ({"sid": "s" * 1_025}, "invalid_request", "Claim sid"),
    ({"events": None}, "invalid_request", "no logout event"),
    ({"events": {}}, "invalid_request", "no logout event"),
    ({"events": {SESSION_REVOKED: {}}}, "invalid_request", "no logout event"),
    ({"events": {LOGOUT_EVENT: None}}, "invalid_request", "no logout event"),
    ({"events": {LOGOUT_EVENT: True}}, "invalid_request", "no logout event"),
    ({"events": {f"{LOGOUT_EVENT}/": {}}}, "invalid_request", "no logout event"),
    ({"events": [LOGOUT_EVENT]}, "invalid_request", "no logout event"),
    ({"aud": "another-client"}, "invalid_audience", "expected"),
    ({"iss": "https://other.example"}, "invalid_issuer", "no stream"),
    ({"jti": None}, "invalid_request", "jti"),
    ({"iat": None}, "invalid_request", "iat"),
    ({"iat": START + 31}, "invalid_request", "future"),
    ({"iat": START - 86_430}, "invalid_request", "too long ago"),
    ({"exp": None, "iat": START - 630}, "invalid_request", "too long ago"),
    ({"exp": START - 30}, "invalid_request", "expired"),
    ({"header": {"typ": "secevent+jwt"}}, "invalid_request", "sent to /signals/events"),
    ({"header": {"typ": "at+jwt"}}, "invalid_request", "typ"),
    ({"header": {"typ": "dpop+jwt"}}, "invalid_request", "typ"),
    ({"header": {"kid": "k2"}}, "invalid_key", "KEY_UNKNOWN"),
]


@pytest.mark.parametrize(("changes", "code", "detail"), REJECTED, ids=lambda it: str(it)[:50])
async def test_rejected(sender: Sender, changes: dict[str, Any], code: str, detail: str) -> None:
    with pytest.raises(SignalError) as caught:
        await received(sender.logout_token(**changes), sender)
    assert caught.value.code == code
    assert detail in caught.value.detail


async def test_types_of_other_signals_make_no_logout_token(sender: Sender) -> None:
    text = sender.logout_token(header={"typ": "at+jwt"})
    with pytest.raises(SignalError, match="typ"):
        await received(text, sender, accepted_types=("at+jwt", "secevent+jwt"))


@pytest.mark.parametrize(
    ("changes", "end"),
    [({}, START + 86_430), ({"exp": START + 9e8}, START + 86_430), ({"exp": None}, START + 630)],
    ids=str,
)
async def test_no_token_is_accepted_for_ever(
    sender: Sender, changes: dict[str, Any], end: float
) -> None:
    text = sender.logout_token(**changes)
    assert (await received(text, sender)).until == end + 300
    with pytest.raises(SignalError, match=r"too long ago|has expired"):
        await received(text, sender, now=end)


async def test_an_id_of_a_security_event_token_is_another_one(sender: Sender) -> None:
    logout = await received(sender.logout_token(jti="1"), sender)
    text = sender.security_event_token(jti="1")
    assert (await verify_set(verifier_of(sender.stream()), text, START)).key != logout.key


ID_TOKEN = {"aud": CLIENT, "sub": "alice", "sid": "s1", "exp": START + 600, "nonce": "n"}
ACCESS_TOKEN = {"aud": CLIENT, "sub": "alice", "sid": "s1", "exp": START + 600, "scope": "read"}


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "logout+jwt", "secevent+jwt"])
@pytest.mark.parametrize("claims", [ID_TOKEN, ACCESS_TOKEN], ids=["id", "access"])
async def test_other_tokens_are_no_signals(
    sender: Sender, typ: str | None, claims: dict[str, object]
) -> None:
    text = sender.signed({"typ": typ}, claims)
    lax = ("none", "jwt", "at+jwt", "logout+jwt", "secevent+jwt")
    verifier = verifier_of(sender.stream(accepted_types=lax))
    for verify in (verify_logout, verify_set):
        with pytest.raises(SignalError, match="invalid_request"):
            await verify(verifier, text, START)
