"""The algorithms with SHA-384 and SHA-512 (RFC 7518 section 3), each against all the others."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from authsvc.tokens.algorithms import KeyMaterial
from tests.support.signatures.cases import MESSAGE, Case, mutations

ALGORITHMS = ("HS384", "HS512", "RS384", "RS512", "PS384", "PS512", "ES384", "ES512")

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: dict[str, EllipticCurve] = {"256": SECP256R1(), "384": SECP384R1(), "512": SECP521R1()}

SECRET = hashlib.sha512(b"secret").digest()
RSA_KEY: RSAPrivateKey = generate_private_key(65537, 2048)


def cases(algorithm: str) -> Iterator[Case]:
    """A valid signature, its mutations, and what else the same key can sign."""
    valid = Case(
        "untouched", algorithm, _public(algorithm), MESSAGE, _signature(algorithm), valid=True
    )
    yield from mutations(valid)
    for message in (b"", MESSAGE * 100):
        signature = _signature(algorithm, message=message)
        yield replace(valid, name="another message", message=message, signature=signature)
    family, size = algorithm[:2], algorithm[2:]
    for other in {"256", "384", "512"} - {size}:
        yield valid.wrong(f"hash {other}", _signature(algorithm, size=other))
    if family in {"RS", "PS"}:
        padding = "PS" if family == "RS" else "RS"
        yield valid.wrong(f"the padding of {padding}", _signature(f"{padding}{size}"))
    if family == "PS":
        for length in (0, 20, 32, 48, 64):
            if length != int(size) // 8:
                signature = _pss(size, salt_length=length)
                yield valid.wrong(f"a salt of {length} bytes", signature)
    if family == "ES":
        yield valid.wrong("DER", _ec_der(size, size))
    if family == "HS":
        yield valid.wrong("half of it", valid.signature[: int(size) // 16])
        for extra in (1, 2, 3):  # a zero at the end is no other key (RFC 2104 section 2)
            secret = SECRET + bytes([extra])
            mac = hmac.digest(secret, MESSAGE, f"sha{size}")
            yield replace(valid, name="a longer secret", material=secret, signature=mac)
            yield valid.wrong("a longer secret's", mac)


def _public(algorithm: str) -> KeyMaterial:
    family, size = algorithm[:2], algorithm[2:]
    if family == "HS":
        return SECRET
    if family == "ES":
        return _ec_key(size).public_key()
    return RSA_KEY.public_key()


def _signature(algorithm: str, *, size: str = "", message: bytes = MESSAGE) -> bytes:
    """With the hash of another size where one is given."""
    family, own = algorithm[:2], algorithm[2:]
    size = size or own
    if family == "HS":
        return hmac.digest(SECRET, message, f"sha{size}")
    if family == "RS":
        return RSA_KEY.sign(message, PKCS1v15(), _HASHES[size])
    if family == "PS":
        return _pss(size, salt_length=int(size) // 8, message=message)
    octets = (_CURVES[own].key_size + 7) // 8
    return b"".join(
        number.to_bytes(octets) for number in decode_dss_signature(_ec_der(own, size, message))
    )


def _pss(size: str, *, salt_length: int, message: bytes = MESSAGE) -> bytes:
    return RSA_KEY.sign(message, PSS(MGF1(_HASHES[size]), salt_length), _HASHES[size])


def _ec_key(size: str) -> EllipticCurvePrivateKey:
    return derive_private_key(int.from_bytes(hashlib.sha256(b"key").digest()), _CURVES[size])


def _ec_der(curve: str, size: str, message: bytes = MESSAGE) -> bytes:
    return _ec_key(curve).sign(message, ECDSA(_HASHES[size]))
