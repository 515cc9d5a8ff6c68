"""Security event tokens: which are accepted, and what is read of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.signals.errors import SignalError
from authsvc.signals.security_event_tokens import MAX_EVENTS, verify_set
from authsvc.signals.signals import SignalToken, Stream
from authsvc.signals.subjects import Subject, User
from authsvc.signals.verification import MAX_SIGNAL_BYTES, SignatureVerifier
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeySet
from tests.support.clock import START
from tests.support.keys import Signer, jwks, signer
from tests.support.signals import (
    ALICE,
    CAEP,
    CLIENT,
    LOGOUT_EVENT,
    RECEIVER,
    RISC,
    SESSION_REVOKED,
    EveryPass,
    Sender,
    verifier_of,
)
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio


async def received(
    text: str,
    sender: Sender,
    *,
    now: float = START,
    **stream: Any,  # noqa: ANN401 - any field
) -> SignalToken:
    return await verify_set(verifier_of(sender.stream(**stream)), text, now)


async def rejection(
    text: str,
    sender: Sender,
    *,
    now: float = START,
    **stream: Any,  # noqa: ANN401 - any field
) -> SignalError:
    with pytest.raises(SignalError) as caught:
        await received(text, sender, now=now, **stream)
    assert text not in str(caught.value)
    assert caught.value.description.isascii()
    return caught.value


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def test_a_token_is_read(sender: Sender) -> None:
    token = await received(sender.security_event_token(), sender)
    (signal,) = token.signals
    assert (signal.name, signal.subject) == ("session-revoked", Subject((User(ISSUER, "alice"),)))
    assert (signal.time, signal.event) == (START, {"event_timestamp": START})
    assert token.stream.issuer == ISSUER
    assert token.until == START + 86_400 + 30 + 300
    assert "alice" not in token.key


async def test_each_token_has_a_key_of_its_own(sender: Sender) -> None:
    other = Sender("https://other.example")
    keys = [
        (await received(it.security_event_token(jti=jti), it)).key
        for it in (sender, other)
        for jti in ("1", "2")
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 43 and key.isascii() for key in keys)
    again = await received(sender.security_event_token(jti="1", txn="another"), sender)
    assert again.key == keys[0]


async def test_a_token_with_several_events(sender: Sender) -> None:
    """Each has a subject of its own, or the token's. An odd one changes no other."""
    bob = {**ALICE, "sub": "bob"}
    events = {
        SESSION_REVOKED: {"subject": ALICE},
        f"{RISC}account-disabled": {"subject": bob},
        f"{CAEP}credential-change": None,
        f"{CAEP}token-claims-change": [7],
        "https://elsewhere.example/event": {"subject": "x"},
    }
    token = await received(sender.security_event_token(events=events, sub_id=None), sender)
    users = {it.name: it.subject.users for it in token.signals}
    assert users == {
        "session-revoked": (User(ISSUER, "alice"),),
        "account-disabled": (User(ISSUER, "bob"),),
        "credential-change": (),
        "token-claims-change": (),
        "other": (),
    }
    token = await received(sender.security_event_token(events=events), sender)
    assert {it.subject.users for it in token.signals} == {(User(ISSUER, "alice"),)}


@pytest.mark.parametrize(
    ("event", "claims", "time"),
    [
        ({"event_timestamp": START - 60}, {}, START),
        ({"event_timestamp": START + 20}, {}, START + 20),
        ({"event_timestamp": (START + 20) * 1_000}, {}, START + 20),
        ({"event_timestamp": 4e11}, {}, START),
        ({"event_timestamp": 253_402_300_799}, {}, START + 30),
        ({"event_timestamp": 1e300}, {}, START + 30),
        ({"event_timestamp": 10**31}, {}, START + 30),
        ({"event_timestamp": True}, {}, START),
        ({"event_timestamp": "soon"}, {}, START),
        ({"event_timestamp": -1}, {}, START),
        ({"event_timestamp": None}, {"toe": START + 10}, START + 10),
        ({}, {"toe": [START]}, START),
    ],
    ids=str,
)
async def test_the_time_of_an_event(
    sender: Sender, event: object, claims: dict[str, Any], time: float
) -> None:
    """Drafts of CAEP had milliseconds. A mistake locks nobody out for years."""
    text = sender.security_event_token(event=event, **claims)
    (signal,) = (await received(text, sender)).signals
    assert signal.time == time


ACCEPTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"aud": [RECEIVER]}, {}),
    ({"aud": ["https://other.example", RECEIVER]}, {}),
    ({"aud": [7, None, CLIENT]}, {}),
    ({"iat": START + 30}, {}),
    ({"iat": START - 86_400 - 29}, {}),
    ({"iat": START - 600, "exp": START - 29}, {}),
    ({"nbf": START + 30}, {}),
    ({"header": {"typ": "application/SecEvent+JWT"}}, {}),
    ({"header": {"typ": "JWT"}}, {"accepted_types": ("secevent+jwt", "JWT")}),
    ({"header": {"typ": None}}, {"accepted_types": ("None", "x")}),
    ({"header": {"typ": "Application/X"}}, {"accepted_types": ("application/x",)}),
    ({"txn": 8_675_309, "nonce": "n"}, {}),
]


@pytest.mark.parametrize(("changes", "stream"), ACCEPTED, ids=str)
async def test_accepted(sender: Sender, changes: dict[str, Any], stream: dict[str, Any]) -> None:
    token = await received(sender.security_event_token(**changes), sender, **stream)
    assert token.signals[0].subject.users == (User(ISSUER, "alice"),)


OF = f"signals.streams[{ISSUER}]"
REJECTED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"iss": "https://idp.example/"}, "invalid_issuer", "no stream", "signals.streams"),
    ({"iss": None}, "invalid_issuer", "no stream", "signals.streams"),
    ({"iss": 7}, "invalid_request", "claim iss", ""),
    ({"aud": "https://other.example"}, "invalid_audience", "expected", f"{OF}.audiences"),
    ({"aud": RECEIVER + "/"}, "invalid_audience", "expected", f"{OF}.audiences"),
    ({"aud": None}, "invalid_request", "Claim aud", ""),
    ({"aud": []}, "invalid_request", "Claim aud", ""),
    ({"aud": {RECEIVER: 1}}, "invalid_request", "Claim aud", ""),
    ({"aud": ["x"] * 65}, "invalid_request", "Claim aud", ""),
    ({"iat": None}, "invalid_request", "iat is missing", ""),
    ({"iat": "now"}, "invalid_request", "claim iat", ""),
    ({"iat": START * 1_000}, "invalid_request", "claim iat", ""),
    ({"iat": START + 31}, "invalid_request", "31 s in the future", f"{OF}.leeway_seconds"),
    ({"iat": START - 86_430}, "invalid_request", "too long ago", f"{OF}.max_age_seconds"),
    ({"exp": START - 30}, "invalid_request", "expired 30 s ago, 30 s are", ""),
    ({"exp": "x"}, "invalid_request", "claim exp", ""),
    ({"nbf": START + 31}, "invalid_request", "31 s in the future", f"{OF}.leeway_seconds"),
    ({"jti": None}, "invalid_request", "jti is missing", ""),
    ({"jti": ""}, "invalid_request", "jti is missing", ""),
    ({"jti": 7}, "invalid_request", "claim jti", ""),
    ({"jti": "j" * 1_025}, "invalid_request", "claim jti", ""),
    ({"sub": "alice"}, "invalid_request", "Claim sub", ""),
    ({"events": None}, "invalid_request", "Claim events", ""),
    ({"events": {}}, "invalid_request", "Claim events", ""),
    ({"events": [SESSION_REVOKED]}, "invalid_request", "Claim events", ""),
    ({"events": json.dumps({"type": "consent-revoked"})}, "invalid_request", "Claim events", ""),
    ({"events": {f"urn:{n}": {} for n in range(MAX_EVENTS + 1)}}, "invalid_request", "events", ""),
    ({"events": {LOGOUT_EVENT: {}}}, "invalid_request", "logout token", ""),
    ({"header": {"typ": "JWT"}}, "invalid_request", "typ 'jwt'", f"{OF}.accepted_types"),
    ({"header": {"typ": None}}, "invalid_request", "typ ''", f"{OF}.accepted_types"),
    ({"header": {"typ": "logout+jwt"}}, "invalid_request", "sent to /signals/logout", ""),
    ({"header": {"typ": "at+jwt"}}, "invalid_request", "typ", f"{OF}.accepted_types"),
    ({"header": {"kid": "other"}}, "invalid_key", "TOKEN_KEY_UNKNOWN", ""),
    ({"header": {"crit": ["exp"]}}, "invalid_request", "crit", ""),
    ({"filler": "x" * 70_000}, "invalid_request", "TOO_LARGE", ""),
]


@pytest.mark.parametrize(
    ("changes", "code", "detail", "setting"), REJECTED, ids=lambda it: str(it)[:50]
)
async def test_rejected(
    sender: Sender, changes: dict[str, Any], code: str, detail: str, setting: str
) -> None:
    error = await rejection(sender.security_event_token(**changes), sender)
    assert (error.code, error.setting) == (code, setting)
    assert detail in error.detail


async def test_an_algorithm_that_is_not_the_keys(sender: Sender) -> None:
    header, payload, signature = sender.security_event_token().split(".")
    other = sender.signed({"typ": "secevent+jwt"}, {}).split(".")[0]
    assert header == other
    none = "eyJhbGciOiJub25lIiwidHlwIjoic2VjZXZlbnQrand0In0"
    rs256 = "eyJhbGciOiJSUzI1NiIsInR5cCI6InNlY2V2ZW50K2p3dCJ9"
    error = await rejection(f"{none}.{payload}.", sender)
    assert (error.code, error.setting) == ("invalid_key", "")
    error = await rejection(f"{rs256}.{payload}.{signature}", sender)
    assert (error.code, error.setting) == ("invalid_key", f"issuers[{ISSUER}].algorithms")
    error = await rejection(f"{rs256}.{payload}.{signature}", sender, keys_table=OF)
    assert error.setting == f"{OF}.algorithms"


async def test_a_forged_token(sender: Sender) -> None:
    forger = Sender()
    error = await rejection(forger.security_event_token(), sender)
    assert (error.code, error.description) == ("invalid_key", "The signature does not verify.")
    header, _, signature = sender.security_event_token().split(".")
    payload = sender.security_event_token(sub_id={**ALICE, "sub": "bob"}).split(".")[1]
    assert (await rejection(f"{header}.{payload}.{signature}", sender)).code == "invalid_key"


async def test_another_streams_key_does_not_count(sender: Sender) -> None:
    other = Sender("https://other.example")
    other.issuer = ISSUER
    text = other.security_event_token()
    streams = sender.stream(), Sender("https://other.example").stream()
    with pytest.raises(SignalError, match="invalid_key"):
        await verify_set(verifier_of(*streams), text, START)


@pytest.mark.parametrize("nesting", [40, 20_000])
async def test_deeply_nested_claims(sender: Sender, nesting: int) -> None:
    header, _, signature = sender.security_event_token().split(".")
    payload = b'{"events":' + b"[" * nesting + b"]" * nesting + b"}"
    text = f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"
    assert (await rejection(text, sender)).code == "invalid_request"


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "a.b.c.d.e", "é.é.é", "x" * (MAX_SIGNAL_BYTES + 1)]
)
async def test_what_is_no_jwt(sender: Sender, text: str) -> None:
    with pytest.raises(SignalError, match="invalid_request"):
        await received(text, sender)


class Rotating:
    """Keys that a look for newer ones replaces."""

    failure = ""
    clock_offset_seconds = None

    def __init__(self, before: KeySet | None, after: KeySet | None) -> None:
        self._keys = before
        self._after = after
        self.renewals = 0

    def current(self, now: float) -> KeySet:
        if self._keys is None:
            raise AuthError(Reason.KEYS_UNAVAILABLE)
        return self._keys

    async def renew(self, now: float) -> bool:
        self.renewals += 1
        self._keys = self._after
        return True

    async def refresh(self, now: float) -> None:
        raise NotImplementedError


def keys_of(*signers: Signer) -> KeySet:
    return parse_jwks(jwks(*signers), ["ES256"], issuer=ISSUER)


def stream_of(keys: Rotating) -> Stream:
    return Stream(ISSUER, keys, (RECEIVER,), (ISSUER,))


async def test_a_new_key_is_looked_for(sender: Sender) -> None:
    keys = Rotating(keys_of(signer("old")), sender.keys)
    token = await verify_set(verifier_of(stream_of(keys)), sender.security_event_token(), START)
    assert token.signals
    assert keys.renewals == 1


async def test_a_new_key_without_a_name_is_looked_for() -> None:
    sender = Sender()
    text = sender.security_event_token(header={"kid": None})
    keys = Rotating(keys_of(signer("old")), sender.keys)
    assert (await verify_set(verifier_of(stream_of(keys)), text, START)).signals
    keys = Rotating(keys_of(signer("old")), keys_of(signer("newer")))
    with pytest.raises(SignalError, match="invalid_key"):
        await verify_set(verifier_of(stream_of(keys)), text, START)


async def test_keys_that_are_unavailable_reject_nothing(sender: Sender) -> None:
    keys = Rotating(None, None)
    with pytest.raises(AuthError) as caught:
        await verify_set(verifier_of(stream_of(keys)), sender.security_event_token(), START)
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE


async def test_each_token_waits_for_a_pass(sender: Sender) -> None:
    fairness = EveryPass()
    verifier = SignatureVerifier([sender.stream()], fairness=fairness)
    await verify_set(verifier, sender.security_event_token(), START)
    assert fairness.passes == 1
    for text in (
        Sender().security_event_token(),
        sender.security_event_token(iss="https://other.example"),
        "a.b.c",
    ):
        with pytest.raises(SignalError):
            await verify_set(verifier, text, START)
    assert fairness.passes == 4


def test_an_issuer_has_one_stream(sender: Sender) -> None:
    with pytest.raises(ValueError, match="has two streams"):
        verifier_of(sender.stream(), sender.stream())
    assert [it.issuer for it in verifier_of(sender.stream()).streams] == [ISSUER]
