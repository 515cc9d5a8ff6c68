"""ES256 (RFC 7518 section 3.4): ECDSA over P-256, with r and s in 32 bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from tests.support.signatures.cases import MESSAGE, Case, mutations

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""FIPS 186-4 appendix D.1.2.3; a is -3."""

KEY = derive_private_key(int.from_bytes(hashlib.sha256(b"key").digest()), SECP256R1())
OTHER = derive_private_key(int.from_bytes(hashlib.sha256(b"other").digest()), SECP256R1())

_Point = tuple[int, int] | None
"""None is the point at infinity."""


def cases() -> Iterator[Case]:
    """Signatures by one key, by keys made for the signature, and what is like them."""
    valid = _signed(MESSAGE)
    yield from mutations(valid)
    yield from _numbers(valid)
    yield from _encodings(valid)
    yield from _other_hashes_and_keys(valid)
    yield from _short_numbers()
    yield from _chosen_s()
    yield from _chosen_r()


def _signed(message: bytes) -> Case:
    return _case("untouched", KEY.public_key(), message, *_numbers_of(KEY, message), valid=True)


def _numbers_of(
    key: EllipticCurvePrivateKey, message: bytes, function: hashes.HashAlgorithm | None = None
) -> tuple[int, int]:
    how = ECDSA(function or hashes.SHA256(), deterministic_signing=True)
    return decode_dss_signature(key.sign(message, how))


def _case(
    name: str, public: EllipticCurvePublicKey, message: bytes, r: int, s: int, *, valid: bool
) -> Case:
    return Case(name, "ES256", public, message, _joined(r, s), valid)


def _joined(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def _split(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:])


def _numbers(valid: Case) -> Iterator[Case]:
    r, s = _split(valid.signature)
    # RFC 7518 does not ask for the lower one of s and n - s.
    yield replace(valid, name="-s", signature=_joined(r, ORDER - s))
    special = {
        "0": 0,
        "1": 1,
        "2": 2,
        "n / 2": ORDER // 2,
        "n - 1": ORDER - 1,
        "n": ORDER,
        "n + 1": ORDER + 1,
        "p - 1": PRIME - 1,
        "p": PRIME,
        "p + 1": PRIME + 1,
        "2^255": 2**255,
        "2^256 - 1": 2**256 - 1,
    }
    for name, first in (*special.items(), ("-r", ORDER - r), ("p - r", PRIME - r), ("r", r)):
        for other_name, second in (*special.items(), ("-s", ORDER - s), ("s", s)):
            if first != r or second not in (s, ORDER - s):
                yield valid.wrong(f"({name}, {other_name})", _joined(first, second))
    for name, first, second in (
        ("(s, r)", s, r),
        ("(r + 1, s)", r + 1, s),
        ("(r, s + 1)", r, s + 1),
        ("(r, 1/s)", r, pow(s, -1, ORDER)),
        ("(r, 2^256 - s)", r, 2**256 - s),
        ("(1/r, s)", pow(r, -1, ORDER), s),
    ):
        yield valid.wrong(name, _joined(first, second))


def _encodings(valid: Case) -> Iterator[Case]:
    r, s = _split(valid.signature)
    der = encode_dss_signature(r, s)
    yield valid.wrong("DER", der)
    yield valid.wrong("DER, 64 bytes of it", der[:64])
    yield valid.wrong("DER, its last 64 bytes", der[-64:])
    yield valid.wrong("DER of (r, -s)", encode_dss_signature(r, ORDER - s))
    for size in (33, 34, 48, 64, 66):
        yield valid.wrong(f"{size} bytes each", r.to_bytes(size) + s.to_bytes(size))
    for first, second in ((33, 32), (32, 33)):
        yield valid.wrong(f"{first} and {second} bytes", r.to_bytes(first) + s.to_bytes(second))
    for name, number in {"r + n": r + ORDER, "r + p": r + PRIME, "r + 2^256": r + 2**256}.items():
        yield valid.wrong(f"{name} in 33 bytes", number.to_bytes(33) + s.to_bytes(32))
    yield valid.wrong("s + n in 33 bytes", r.to_bytes(32) + (s + ORDER).to_bytes(33))
    yield valid.wrong("s + n in 33 bytes each", r.to_bytes(33) + (s + ORDER).to_bytes(33))
    yield valid.wrong("decimal", f"{r},{s}".encode())


def _other_hashes_and_keys(valid: Case) -> Iterator[Case]:
    functions: tuple[hashes.HashAlgorithm, ...] = (
        hashes.SHA1(),  # noqa: S303 - to be rejected
        hashes.SHA224(),
        hashes.SHA384(),
        hashes.SHA512(),
        hashes.SHA512_256(),
        hashes.SHA3_256(),
    )
    for function in functions:
        numbers = _numbers_of(KEY, MESSAGE, function)
        yield valid.wrong(f"hash {function.name}", _joined(*numbers))
    prehashed = _numbers_of(KEY, hashlib.sha256(MESSAGE).digest())
    yield valid.wrong("over the message's hash", _joined(*prehashed))
    yield valid.wrong("another key's", _joined(*_numbers_of(OTHER, MESSAGE)))
    scalar = KEY.private_numbers().private_value
    of_another_curve = derive_private_key(scalar, SECP256K1())
    yield valid.wrong("another curve's", _joined(*_numbers_of(of_another_curve, MESSAGE)))


def _short_numbers() -> Iterator[Case]:
    """r, s or the hash begin with a zero byte, which an encoder of numbers leaves out."""
    found: dict[str, Case] = {}
    for count in range(10_000):
        message = b"message %d" % count
        valid = _signed(message)
        if hashlib.sha256(message).digest()[0] == 0:
            found.setdefault("hash", valid)
        for name, first in (("r", valid.signature[0]), ("s", valid.signature[32])):
            if first == 0:
                found.setdefault(name, valid)
        if len(found) == 3:
            break
    for name, valid in found.items():
        r, s = _split(valid.signature)
        yield replace(valid, name=f"{name} has a leading zero")
        minimal = [number.to_bytes((number.bit_length() + 7) // 8) for number in (r, s)]
        if name != "hash":
            yield valid.wrong(f"{name} without its leading zero", b"".join(minimal))
            yield valid.wrong(f"{name} followed by its zero", b"".join(minimal) + b"\0")
            yield valid.wrong(f"{name} in DER", encode_dss_signature(r, s))


def _chosen_s() -> Iterator[Case]:
    """A key for which a chosen s is right: d = (s k - e) / r."""
    e = int.from_bytes(hashlib.sha256(MESSAGE).digest())
    short = 2**200 + 1  # so that DER is 64 bytes long where r takes 32
    for k in (1, 2, 3, ORDER - 1, int.from_bytes(hashlib.sha256(b"nonce").digest())):
        r = derive_private_key(k, SECP256R1()).public_key().public_numbers().x % ORDER
        for s in (1, 2, short, 2**224 - 2**192, ORDER // 2, ORDER - 2, ORDER - 1):
            d = (s * k - e) * pow(r, -1, ORDER) % ORDER
            public = derive_private_key(d, SECP256R1()).public_key()
            name = f"k {k:x}, s {s:x}"
            valid = _case(name, public, MESSAGE, r, s, valid=True)
            yield valid
            yield valid.wrong(f"{name}, DER", encode_dss_signature(r, s))
            yield valid.wrong(f"{name}, (r, s + 2)", _joined(r, s + 2))
            if s + ORDER < 2**256:
                yield valid.wrong(f"{name}, s + n", _joined(r, s + ORDER))


def _chosen_r() -> Iterator[Case]:
    """A key for which a chosen point R is right: Q = (s R - e G) / r."""
    e = int.from_bytes(hashlib.sha256(MESSAGE).digest())
    generator = derive_private_key(1, SECP256R1()).public_key().public_numbers()
    minus_e_g = _times(ORDER - e % ORDER, (generator.x, generator.y))
    for start in (1, ORDER):
        point = _point_from(start)
        x, r, s = point[0], point[0] % ORDER, e % ORDER // 3
        q = _times(pow(r, -1, ORDER), _sum(_times(s, point), minus_e_g))
        assert q is not None
        public = EllipticCurvePublicNumbers(*q, SECP256R1()).public_key()
        name = f"x of R is {x:x}"
        valid = _case(name, public, MESSAGE, r, s, valid=True)
        yield valid
        yield replace(valid, name=f"{name}, -s", signature=_joined(r, ORDER - s))
        yield valid.wrong(f"{name}, r + n", _joined(r + ORDER, s))
        yield valid.wrong(f"{name}, r + 1", _joined(r + 1, s))


def _point_from(x: int) -> tuple[int, int]:
    """The first point whose x is ``x`` or higher."""
    while True:
        square = (x**3 - 3 * x + B) % PRIME
        y = pow(square, (PRIME + 1) // 4, PRIME)
        if y * y % PRIME == square:
            return x, y
        x += 1


def _sum(one: _Point, two: _Point) -> _Point:
    if one is None or two is None:
        return one or two
    (x1, y1), (x2, y2) = one, two
    if x1 == x2 and (y1 + y2) % PRIME == 0:
        return None
    if x1 == x2:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, PRIME)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, PRIME)
    x = (slope * slope - x1 - x2) % PRIME
    return x, (slope * (x1 - x) - y1) % PRIME


def _times(scalar: int, point: _Point) -> _Point:
    result: _Point = None
    while scalar:
        if scalar & 1:
            result = _sum(result, point)
        point = _sum(point, point)
        scalar >>= 1
    return result
