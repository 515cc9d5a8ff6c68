"""Signing keys of an issuer that publishes them, made without any code of ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from jwt.algorithms import ECAlgorithm

from tests.support.tokens import ISSUER, RESOURCE


@dataclass(frozen=True)
class Signer:
    """An ES256 key under a name."""

    kid: str
    key: EllipticCurvePrivateKey

    def jwk(self) -> dict[str, object]:
        """Its public half."""
        public = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig"}

    def token(self, now: float, *, ttl_seconds: float = 600, **claims: object) -> str:
        """A token that it signed."""
        payload = {
            "iss": ISSUER,
            "sub": "alice",
            "aud": RESOURCE,
            "iat": now,
            "exp": now + ttl_seconds,
            **claims,
        }
        return jwt.encode(payload, self.key, "ES256", {"kid": self.kid})


def signer(kid: str) -> Signer:
    """A new key."""
    return Signer(kid, generate_private_key(SECP256R1()))


def jwks(*signers: Signer, odd: Sequence[object] = ()) -> bytes:
    """What their issuer publishes, odd entries last."""
    return json.dumps({"keys": [*(item.jwk() for item in signers), *odd]}).encode()
