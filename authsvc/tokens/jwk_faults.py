"""Why the material of a JWK is no key; the messages show none of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from authsvc.tokens.algorithms import Algorithm

_MEMBERS = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
"""The members of a public key, by ``kty`` (RFC 7518 section 6, RFC 8037 section 2)."""

_COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32}
"""By curve."""

_OTHERWISE = {
    "RSA": "its n and e make no RSA key",
    "EC": "its x and y are no point of its curve",
    "OKP": "its x is no point of its curve",
}


def material_fault(jwk: Mapping[str, object], algorithm: Algorithm) -> str:
    """Why a public key is malformed.

    Args:
        jwk: the key, of the algorithm's ``kty`` and ``crv``.
        algorithm: one with public keys.
    """
    for name in _MEMBERS[algorithm.key_type]:
        value = jwk.get(name)
        if value is None:
            return f"it has no {name}"
        octets = _octets(value)
        if octets is None:
            return f"its {name} is not base64url"
        if algorithm.curve and len(octets) != _COORDINATE_BYTES[algorithm.curve]:
            wanted = _COORDINATE_BYTES[algorithm.curve]
            return f"its {name} has {len(octets)} bytes, not {wanted}"
    return _OTHERWISE[algorithm.key_type]


def encoding_fault(jwk: Mapping[str, object], algorithm: Algorithm) -> str:
    """Which member of a public key is not base64url; empty if each is.

    Decoders skip such characters: what they read is another, shorter key.

    Args:
        jwk: as for ``material_fault``.
        algorithm: as for ``material_fault``.
    """
    for name in _MEMBERS[algorithm.key_type]:
        if _octets(jwk.get(name)) is None:
            return f"its {name} is not base64url"
    return ""


def _octets(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    padded = value + "=" * (-len(value) % 4)
    try:
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError:
        return None
