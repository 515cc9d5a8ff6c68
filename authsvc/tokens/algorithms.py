"""Signature algorithms (RFC 7518 section 3, RFC 8037, RFC 9864): what each demands of its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KeyMaterial = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm and its keys.

    Attributes:
        material: the type of its keys.
        key_type: their ``kty`` (RFC 7518 section 6.1).
        curve: their ``crv``; None where they have none.
        min_secret_bytes: of a secret: as many as the hash has (RFC 7518 section 3.2).
    """

    material: type[KeyMaterial]
    key_type: str
    curve: str | None = None
    min_secret_bytes: int = 0

    @property
    def is_symmetric(self) -> bool:
        """Whether its key is a secret that signs and verifies."""
        return self.material is bytes


ALGORITHMS: Mapping[str, Algorithm] = {
    "HS256": Algorithm(bytes, "oct", min_secret_bytes=32),
    "HS384": Algorithm(bytes, "oct", min_secret_bytes=48),
    "HS512": Algorithm(bytes, "oct", min_secret_bytes=64),
    "RS256": Algorithm(RSAPublicKey, "RSA"),
    "RS384": Algorithm(RSAPublicKey, "RSA"),
    "RS512": Algorithm(RSAPublicKey, "RSA"),
    "PS256": Algorithm(RSAPublicKey, "RSA"),
    "PS384": Algorithm(RSAPublicKey, "RSA"),
    "PS512": Algorithm(RSAPublicKey, "RSA"),
    "ES256": Algorithm(EllipticCurvePublicKey, "EC", "P-256"),
    "ES384": Algorithm(EllipticCurvePublicKey, "EC", "P-384"),
    "ES512": Algorithm(EllipticCurvePublicKey, "EC", "P-521"),
    "EdDSA": Algorithm(Ed25519PublicKey, "OKP", "Ed25519"),
}
"""The supported ones, by name. ``EdDSA`` is Ed25519 alone: Ed448 is not supported."""

NAMES = (*ALGORITHMS, "Ed25519")
"""Their names in headers, keys and settings. ``Ed25519`` is the name that RFC 9864 gives."""


def canonical_name(name: str) -> str:
    """The name in ``ALGORITHMS``: RFC 9864's ``Ed25519`` is ``EdDSA``; any other is its own."""
    return "EdDSA" if name == "Ed25519" else name
