"""HS256 (RFC 7518 section 3.2)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import replace

from tests.support.signatures.cases import MESSAGE, Case, flipped, mutations

SECRET = hashlib.sha256(b"secret").digest()


def cases() -> Iterator[Case]:
    """MACs with one key, and with keys like it."""
    valid = Case("untouched", "HS256", SECRET, MESSAGE, _mac(SECRET, MESSAGE), valid=True)
    yield from mutations(valid)
    yield from _other_secrets(valid)
    yield from _other_functions(valid)


def _mac(secret: bytes, message: bytes, function: str = "sha256") -> bytes:
    return hmac.digest(secret, message, function)


def _other_secrets(valid: Case) -> Iterator[Case]:
    for bit in range(8 * len(SECRET)):
        mac = _mac(flipped(SECRET, bit), MESSAGE)
        yield valid.wrong(f"secret with bit {bit} flipped", mac)
    for name, other in {
        "empty": b"",
        "truncated": SECRET[:-1],
        "extended": SECRET + b"\n",
        "hashed": hashlib.sha256(SECRET).digest(),
        "hexadecimal": SECRET.hex().encode(),
    }.items():
        yield valid.wrong(f"secret {name}", _mac(other, MESSAGE))
    # RFC 2104 section 2 pads a short secret with zeros, and hashes one longer than a block.
    for length in (32, 33, 63, 64, 65, 200):
        secret = (SECRET * 7)[:length]
        mac = _mac(secret, MESSAGE)
        yield replace(valid, name=f"secret of {length} bytes", material=secret, signature=mac)
        yield replace(
            valid.wrong(f"secret of {length} bytes, truncated", mac[:16]), material=secret
        )


def _other_functions(valid: Case) -> Iterator[Case]:
    for function in ("md5", "sha1", "sha224", "sha384", "sha512", "sha3_256", "blake2s"):
        mac = _mac(SECRET, MESSAGE, function)
        yield valid.wrong(f"HMAC with {function}", mac)
        yield valid.wrong(f"HMAC with {function}, 32 bytes of it", mac[:32])
    for name, data in {
        "secret, message": SECRET + MESSAGE,
        "message, secret": MESSAGE + SECRET,
        "message": MESSAGE,
    }.items():
        yield valid.wrong(f"hash of {name}", hashlib.sha256(data).digest())
    yield valid.wrong("secret and message swapped", _mac(MESSAGE, SECRET))
    yield valid.wrong("over the message's hash", _mac(SECRET, hashlib.sha256(MESSAGE).digest()))
    yield valid.wrong("the secret itself", SECRET)
