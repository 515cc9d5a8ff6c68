"""The fuzzed function: how signed claims become signals and what these revoke. It runs without a
fuzzer, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

import jwt

from authsvc.signals.actions import DEFAULT_ACTIONS, Action
from authsvc.signals.errors import SignalError
from authsvc.signals.logout_tokens import verify_logout
from authsvc.signals.processing import MAX_TARGETS
from authsvc.signals.security_event_tokens import MAX_EVENTS, verify_set
from authsvc.signals.signals import SignalToken, Stream
from authsvc.signals.targets import targets_of
from authsvc.signals.verification import SignatureVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH
from fuzz.answer_seeds import ODD
from fuzz.tokens import NOW, SECRET

ISSUER = "https://idp.example"
API = "https://idp.example/api"
RECEIVER = "https://authsvc.example/signals"
EVENTS = "https://schemas.openid.net/secevent"
REVOKED = f"{EVENTS}/caep/event-type/session-revoked"
DISABLED = f"{EVENTS}/risc/event-type/account-disabled"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
ALICE: Mapping[str, object] = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
SESSION: Mapping[str, object] = {"format": "opaque", "id": "s1"}
COMMON: Mapping[str, object] = {"iss": ISSUER, "aud": RECEIVER, "iat": NOW, "jti": "j1"}
SET: Mapping[str, object] = {
    **COMMON,
    "exp": NOW + 600,
    "toe": NOW,
    "sub_id": {"format": "complex", "user": ALICE, "session": SESSION},
    "events": {REVOKED: {"event_timestamp": NOW, "subject": ALICE}, DISABLED: {"subject": ALICE}},
}
LOGOUT_CLAIMS: Mapping[str, object] = {
    **COMMON,
    "exp": NOW + 120,
    "sub": "alice",
    "sid": "s1",
    "events": {LOGOUT: {}},
}

_LOOP = asyncio.new_event_loop()


class _Unlimited:
    async def wait(self) -> None:
        """Pass at once."""


_STREAM = Stream(
    ISSUER,
    KeySet((VerificationKey(None, "HS256", SECRET.encode()),)),
    (RECEIVER,),
    (ISSUER, API),
    accepted_types=("JWT",),
    subject_formats=("email", "opaque"),
)
_VERIFIER = SignatureVerifier([_STREAM], fairness=_Unlimited())


def signals_verdict(data: bytes) -> str:
    """The codes with which claims are rejected as either kind of signal; empty if they are one.

    Any other exception is a finding, and so is a revocation that the stream must not cause.
    """
    text = jwt.api_jws.encode(data, SECRET, "HS256")
    codes = set()
    for verify in (verify_set, verify_logout):
        try:
            token = _LOOP.run_until_complete(verify(_VERIFIER, text, NOW))
        except SignalError as error:
            codes.add(error.code.value)
            _demand(error.description.isascii() and len(error.description) < 200, "a description")
            _demand(len(error.detail) < 2_000, "a detail of any length")
        else:
            _check(token)
            codes.add("")
    return "" if "" in codes else " ".join(sorted(codes))


def _check(token: SignalToken) -> None:
    """Each event names only whom its stream may name, within bounds."""
    _demand(0 < len(token.signals) <= MAX_EVENTS, "events without a bound")
    _demand(NOW < token.until <= NOW + 86_400 + 30 + 300 + 30, "a time without a bound")
    for signal in token.signals:
        _demand(signal.time <= NOW + _STREAM.leeway_seconds, "a revocation of the future")
        for action in {DEFAULT_ACTIONS.get(signal.name, Action.NONE), Action.SUBJECT}:
            targets = targets_of(action, signal.subject, token.stream)
            _demand(len(targets) <= MAX_TARGETS, "targets without a bound")
            for target in targets:
                _demand(target.issuer in _STREAM.applies_to, "another issuer")
        _demand(all(0 < len(it.subject) <= MAX_SUBJECT_LENGTH for it in signal.subject.users), "")
        _demand(len(signal.subject.sid) <= MAX_TEXT_LENGTH, "a session's id")


def _demand(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def odd_signals() -> Iterator[bytes]:
    """Each odd value in the place of each member, at any depth."""
    for claims in (SET, LOGOUT_CLAIMS):
        yield from (json.dumps(odd).encode() for odd in _odd(claims))


def _odd(value: Mapping[str, object]) -> Iterator[dict[str, object]]:
    for name, member in value.items():
        yield {key: it for key, it in value.items() if key != name}
        for odd in ODD:
            yield {**value, name: odd}
        if isinstance(member, Mapping):
            for inner in _odd(member):
                yield {**value, name: inner}


def seeds() -> dict[str, bytes]:
    """The inputs that are kept as files, by name."""
    aliases = {"format": "aliases", "identifiers": [ALICE, {"format": "email", "email": "a@x"}]}
    claims: dict[str, Mapping[str, object]] = {
        "set": SET,
        "logout": LOGOUT_CLAIMS,
        "both": {**SET, **LOGOUT_CLAIMS},
        "id-token": {**COMMON, "sub": "alice", "exp": NOW + 600, "nonce": "n"},
        "aliases": {**SET, "sub_id": aliases},
        "jwt-id": {**SET, "sub_id": {"format": "jwt_id", "iss": ISSUER, "jti": "j"}},
        "older": {**SET, "sub_id": {"subject_type": "iss-sub", "iss": ISSUER, "sub": "alice"}},
        "foreign": {**SET, "sub_id": {**ALICE, "iss": "https://other.example"}},
        "milliseconds": {**SET, "events": {REVOKED: {"event_timestamp": NOW * 1_000}}},
        "apple": {**SET, "events": '{"type":"consent-revoked","sub":"001"}'},
        "many": {**SET, "events": {f"urn:{number}": {} for number in range(17)}},
    }
    texts = {
        "nested": b'{"events":' + b"[" * 40 + b"]" * 40 + b"}",
        "twice": b'{"events":{},"events":{}}',
        "huge-integer": b'{"iat":' + b"9" * 40 + b"}",
        "bytes": bytes(range(256)),
    }
    return {name: json.dumps(value).encode() for name, value in claims.items()} | texts
