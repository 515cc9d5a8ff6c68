"""The keys that sign assertions: ECDSA with P-256 and SHA-256 (RFC 7518 section 3.4)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

ALGORITHM = "ES256"

_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and the time from which it signs. No repr shows its private part.

    Attributes:
        sign_time: seconds since the epoch. From then on it signs, until a later key does.
        private: the private key.
        jwk: the public key (RFC 7517), with ``kid``, ``alg`` and ``use``.
    """

    sign_time: float
    private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    jwk: Mapping[str, str]

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey, sign_time: float) -> Self:
        """A key with its JWK."""
        return cls(sign_time, private, _public_jwk(private.public_key()))

    @classmethod
    def generated(cls, sign_time: float) -> Self:
        """A new key."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()), sign_time)

    @property
    def kid(self) -> str:
        """Its thumbprint (RFC 7638): header ``kid`` of what it signs."""
        return self.jwk["kid"]


def _public_jwk(public: ec.EllipticCurvePublicKey) -> Mapping[str, str]:
    numbers = public.public_numbers()
    required = {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url(numbers.x.to_bytes(_COORDINATE_BYTES)),
        "y": base64url(numbers.y.to_bytes(_COORDINATE_BYTES)),
    }
    # RFC 7638 section 3: the required members in lexicographic order, without white space.
    canonical = json.dumps(required, separators=(",", ":"))
    kid = base64url(hashlib.sha256(canonical.encode()).digest())
    return {**required, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def base64url(content: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
