"""EdDSA over Ed25519 (RFC 8032 section 5.1, RFC 8037 section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.signatures.cases import MESSAGE, Case, mutations

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
"""L of RFC 8032 section 5.1."""

_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER = tuple(
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, PRIME - 1, PRIME, PRIME + 1, _Y8, PRIME - _Y8)
    for sign in (0, 1)
)
"""All encodings of the points of order 1, 2, 4 and 8, also those that RFC 8032 does not allow."""


@dataclass(frozen=True)
class _Pair:
    """A scalar and its multiple of the base point: a key, or a nonce and R."""

    scalar: int
    point: bytes


def _pair(name: bytes) -> _Pair:
    seed = hashlib.sha256(name).digest()
    digest = bytearray(hashlib.sha512(seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return _Pair(int.from_bytes(digest, "little"), public.public_bytes_raw())


KEY, NONCE = _pair(b"key"), _pair(b"nonce")
PUBLIC = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"key").digest()).public_key()

_Hash = Callable[[bytes], bytes]


def cases() -> Iterator[Case]:
    """Signatures by one key, and what is like them."""
    valid = Case("untouched", "EdDSA", PUBLIC, MESSAGE, _signature(), valid=True)
    yield from mutations(valid)
    yield replace(valid, name="no message", message=b"", signature=_signature(message=b""))
    yield from _other_s(valid)
    yield from _other_r(valid)
    yield from _other_challenges(valid)
    yield valid.wrong("Ed448", Ed448PrivateKey.from_private_bytes(bytes(57)).sign(MESSAGE))


def _signature(
    message: bytes = MESSAGE,
    nonce: _Pair = NONCE,
    function: _Hash = lambda data: hashlib.sha512(data).digest(),
    order: str = "RAM",
) -> bytes:
    """R and S, the challenge being the hash of ``order``'s parts."""
    parts = {"R": nonce.point, "A": KEY.point, "M": message}
    challenge = int.from_bytes(function(b"".join(parts[name] for name in order)), "little")
    return nonce.point + _encoded((nonce.scalar + challenge * KEY.scalar) % ORDER)


def _encoded(scalar: int) -> bytes:
    return scalar.to_bytes(32, "little")


def _other_s(valid: Case) -> Iterator[Case]:
    r, s = valid.signature[:32], int.from_bytes(valid.signature[32:], "little")
    for times in range(1, (2**256 - 1 - s) // ORDER + 1):
        yield valid.wrong(f"S + {times} L", r + _encoded(s + times * ORDER))
    for name, other in {
        "0": 0,
        "1": 1,
        "L - 1": ORDER - 1,
        "L": ORDER,
        "L + 1": ORDER + 1,
        "8 L": 8 * ORDER,
        "-S": ORDER - s,
        "-S + L": 2 * ORDER - s,
        "S + 1": (s + 1) % ORDER,
        "S of big endian": int.from_bytes(valid.signature[32:], "big"),
        "the private scalar": KEY.scalar,
        "the nonce": NONCE.scalar,
        "2^252": 2**252,
        "2^253": 2**253,
        "2^256 - 1": 2**256 - 1,
    }.items():
        yield valid.wrong(f"S is {name}", r + _encoded(other))
    yield valid.wrong("S in 33 bytes", r + s.to_bytes(33, "little"))
    yield valid.wrong("S without its last byte", valid.signature[:-1])


def _other_r(valid: Case) -> Iterator[Case]:
    s = valid.signature[32:]
    for r in (*SMALL_ORDER, KEY.point, _encoded(PRIME - 2), b"\xff" * 32):
        for name, scalar in {
            "S": s,
            "0": bytes(32),
            "1": _encoded(1),
            "L": _encoded(ORDER),
        }.items():
            yield valid.wrong(f"R is {r.hex()}, S is {name}", r + scalar)
    # Of the nonce 0, R is the neutral element, which a lax decoder reads from other bytes too.
    neutral = _encoded(1)
    yield replace(valid, name="nonce 0", signature=_signature(nonce=_Pair(0, neutral)))
    for r in SMALL_ORDER:
        if r != neutral:
            yield valid.wrong(f"nonce 0, R is {r.hex()}", _signature(nonce=_Pair(0, r)))


def _other_challenges(valid: Case) -> Iterator[Case]:
    for order in ("RMA", "ARM", "AMR", "MRA", "MAR", "RM", "AM", "RA", "M"):
        yield valid.wrong(f"hash of {order}", _signature(order=order))
    for function in ("sha256", "sha384", "sha3_512", "blake2b"):
        yield valid.wrong(
            f"hash {function}",
            _signature(function=lambda data, name=function: hashlib.new(name, data).digest()),  # type: ignore[misc] # bound early
        )
    prehashed = hashlib.sha512(MESSAGE).digest()
    yield valid.wrong("over the message's hash", _signature(message=prehashed))
    # RFC 8032 section 2: dom2 tells Ed25519ph (1) and Ed25519ctx (0) from Ed25519.
    for name, flag, context, message in (
        ("Ed25519ph", 1, b"", prehashed),
        ("Ed25519ctx", 0, b"x", MESSAGE),
        ("Ed25519ctx without a context", 0, b"", MESSAGE),
    ):
        dom2 = b"SigEd25519 no Ed25519 collisions" + bytes([flag, len(context)]) + context
        yield valid.wrong(
            name,
            _signature(
                message=message,
                function=lambda data, dom2=dom2: hashlib.sha512(dom2 + data).digest(),  # type: ignore[misc] # bound early
            ),
        )
    other = _pair(b"another key")
    yield valid.wrong("R is another key's", other.point + valid.signature[32:])
