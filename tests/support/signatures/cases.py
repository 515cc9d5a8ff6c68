"""What a case is, and the mutations that make any signature invalid."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace

from authsvc.tokens.algorithms import KeyMaterial
from authsvc.tokens.keys import VerificationKey

MESSAGE = b'{"alg":"x"}.{"sub":"alice"}'
"""What is signed where it does not matter what."""


@dataclass(frozen=True)
class Case:
    """A signature, and whether it is one.

    Attributes:
        name: what was done to it.
        algorithm: as in a token's header.
        material: the public key, or the secret.
        message: what it is over.
        signature: the signature.
        valid: whether the RFCs allow it.
    """

    name: str
    algorithm: str
    material: KeyMaterial
    message: bytes
    signature: bytes
    valid: bool = False

    def wrong(self, name: str, signature: bytes) -> Case:
        """An invalid signature over the same message."""
        return replace(self, name=name, signature=signature, valid=False)

    def verdict(self) -> bool:
        """What authsvc says."""
        return VerificationKey("k", self.algorithm, self.material).verifies(
            self.message, self.signature
        )


def mutations(valid: Case) -> Iterator[Case]:
    """A valid case, and what no algorithm accepts instead of it."""
    yield valid
    yield from _flipped(valid)
    yield from _of_another_length(valid)
    yield from _rearranged(valid)
    yield from _of_another_message(valid)


def _flipped(valid: Case) -> Iterator[Case]:
    for bit in range(8 * len(valid.signature)):
        yield valid.wrong(f"bit {bit} flipped", flipped(valid.signature, bit))


def _of_another_length(valid: Case) -> Iterator[Case]:
    signature = valid.signature
    for length in range(len(signature)):
        yield valid.wrong(f"truncated to {length} bytes", signature[:length])
        yield valid.wrong(f"without its first {length + 1} bytes", signature[length + 1 :])
    for extra in (b"\0", b"\xff", b"\n", b"=", bytes(32), signature[:1], signature[-1:], signature):
        yield valid.wrong(f"followed by {extra[:8].hex()}", signature + extra)
        yield valid.wrong(f"preceded by {extra[:8].hex()}", extra + signature)


def _rearranged(valid: Case) -> Iterator[Case]:
    signature = valid.signature
    half = len(signature) // 2
    yield valid.wrong("halves swapped", signature[half:] + signature[:half])
    yield valid.wrong("first half twice", signature[:half] * 2)
    yield valid.wrong("second half twice", signature[half:] * 2)
    yield valid.wrong("bytes reversed", signature[::-1])
    yield valid.wrong(
        "bytes of each half reversed", signature[:half][::-1] + signature[half:][::-1]
    )
    yield valid.wrong("bits inverted", bytes(byte ^ 0xFF for byte in signature))
    for byte in (0x00, 0x01, 0x7F, 0x80, 0xFF):
        yield valid.wrong(f"bytes {byte:02x}", bytes([byte]) * len(signature))
    yield valid.wrong("hexadecimal", signature.hex().encode())
    yield valid.wrong("base64url", base64.urlsafe_b64encode(signature))
    start = half // 2
    for length in (1, 2, 8):
        cleared = signature[:start] + bytes(length) + signature[start + length :]
        yield valid.wrong(f"{length} bytes cleared", cleared)


def _of_another_message(valid: Case) -> Iterator[Case]:
    message = valid.message
    for bit in range(8 * len(message)):
        yield replace(
            valid, name=f"message bit {bit} flipped", message=flipped(message, bit), valid=False
        )
    for other in (b"", message[:-1], message[1:], message + b"\0", b"\0" + message, message * 2):
        yield replace(valid, name=f"over {other[:8]!r}", message=other, valid=False)


def flipped(data: bytes, bit: int) -> bytes:
    """With one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
