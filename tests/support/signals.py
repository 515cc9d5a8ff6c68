"""A sender of signals: logout tokens and security event tokens, made without any code of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jwt

from authsvc.signals.signals import Stream
from authsvc.signals.verification import SignatureVerifier
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeySet
from tests.support.clock import START
from tests.support.keys import Signer, jwks, signer
from tests.support.tokens import ISSUER

RECEIVER = "https://authsvc.example/signals"
CLIENT = "mcp-client"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED = f"{CAEP}session-revoked"
ALICE: Mapping[str, object] = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}


class Sender:
    """An identity provider that sends signals, and its key.

    Args:
        issuer: claim ``iss``.
    """

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.signer: Signer = signer("k1")
        self._count = 0

    @property
    def keys(self) -> KeySet:
        return parse_jwks(jwks(self.signer), ["ES256"], issuer=self.issuer)

    def stream(self, **more: Any) -> Stream:  # noqa: ANN401 - any field
        fields = {"audiences": (RECEIVER, CLIENT), "applies_to": (self.issuer,), **more}
        return Stream(issuer=self.issuer, keys=self.keys, **fields)

    def security_event_token(
        self,
        *,
        header: Mapping[str, object] | None = None,
        event: object = None,
        event_type: str = SESSION_REVOKED,
        **claims: object,
    ) -> str:
        """One with an event about alice; a claim of None is left out."""
        members = {"event_timestamp": int(START)} if event is None else event
        usual = {"aud": RECEIVER, "sub_id": ALICE, "events": {event_type: members}}
        return self.signed({"typ": "secevent+jwt", **(header or {})}, {**usual, **claims})

    def logout_token(self, *, header: Mapping[str, object] | None = None, **claims: object) -> str:
        """One of alice's session s1; a claim of None is left out."""
        usual: dict[str, object] = {"aud": CLIENT, "sub": "alice", "sid": "s1", "exp": START + 120}
        usual["events"] = {LOGOUT_EVENT: {}}
        return self.signed({"typ": "logout+jwt", **(header or {})}, {**usual, **claims})

    def signed(self, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """A JWT with ``iss``, ``iat`` and a new ``jti`` besides."""
        self._count += 1
        payload = {"iss": self.issuer, "iat": START, "jti": f"signal-{self._count}", **claims}
        present = {name: value for name, value in payload.items() if value is not None}
        headers: dict[str, Any] = {"alg": "ES256", "kid": self.signer.kid, **header}
        # PyJWT sets typ by itself, and leaves an empty one out.
        headers = {name: it for name, it in headers.items() if it is not None or name == "typ"}
        text = json.dumps(present).encode()
        return jwt.api_jws.encode(text, self.signer.key, headers["alg"], headers)


class EveryPass:
    """A ``Fairness`` that counts."""

    def __init__(self) -> None:
        self.passes = 0

    async def wait(self) -> None:
        self.passes += 1


def verifier_of(*streams: Stream) -> SignatureVerifier:
    return SignatureVerifier(streams, fairness=EveryPass())
