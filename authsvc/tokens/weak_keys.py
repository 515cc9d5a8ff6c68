"""Public keys with known weaknesses, or whose signatures take too long to verify."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MIN_RSA_BITS = 2048
"""RFC 7518 sections 3.3 and 3.5."""

MAX_RSA_BITS = 8192
"""Larger keys would make each verification of a signature slow."""

_ROCA_POWERS = {
    prime: frozenset(pow(65537, exponent, prime) for exponent in range(prime))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
"""The fingerprint of RSA keys that can be factored (ROCA): modulo each of these primes, the modulus
is a power of 65537. One other key in 240 million has it, too (Nemec et al., CCS 2017)."""

_ED25519_PRIME = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _ED25519_PRIME - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    }
)
"""The y coordinates of the Ed25519 points of order 1, 2, 4 and 8. With such a public key, one guess
in eight is a valid signature."""


def weakness_of(key: object) -> str:
    """Why a key is too weak or too long; empty where it is neither.

    Args:
        key: RSA and Ed25519 keys are checked, all others pass.
    """
    if isinstance(key, RSAPublicKey):
        return _rsa_weakness(key)
    if isinstance(key, Ed25519PublicKey):
        return _ed25519_weakness(key)
    return ""


def _rsa_weakness(key: RSAPublicKey) -> str:
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {key.key_size}"
    modulus = key.public_numbers().n
    if all(modulus % prime in powers for prime, powers in _ROCA_POWERS.items()):
        return "can be factored (ROCA, CVE-2017-15361); replace it"
    return ""


def _ed25519_weakness(key: Ed25519PublicKey) -> str:
    # RFC 8032 section 5.1.3: little-endian, the highest bit is the sign of x.
    y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
    if y % _ED25519_PRIME in _SMALL_ORDER_Y:
        return "is a point of small order, for which anybody can sign; replace it"
    return ""
