"""Why the material of a JWK is no key; the messages show none of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

_MEMBERS = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
"""The members of a public key, by ``kty`` (RFC 7518 section 6, RFC 8037 section 2)."""

_COORDINATE_BYTES = 32
"""Of P-256 and of Ed25519."""

_OTHERWISE = {
    "RSA": "its n and e make no RSA key",
    "EC": "its x and y are no point of its curve",
    "OKP": "its x is no point of its curve",
}


def material_fault(jwk: Mapping[str, object], key_type: str) -> str:
    """Why a public key is malformed.

    Args:
        jwk: of P-256 or Ed25519, where it is of a curve.
        key_type: its ``kty``: ``RSA``, ``EC`` or ``OKP``.
    """
    for name in _MEMBERS[key_type]:
        value = jwk.get(name)
        if value is None:
            return f"it has no {name}"
        octets = _octets(value)
        if octets is None:
            return f"its {name} is not base64url"
        if key_type != "RSA" and len(octets) != _COORDINATE_BYTES:
            return f"its {name} has {len(octets)} bytes, not {_COORDINATE_BYTES}"
    return _OTHERWISE[key_type]


def _octets(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    padded = value + "=" * (-len(value) % 4)
    try:
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError:
        return None
