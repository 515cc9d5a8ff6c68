"""RS256 and PS256 (RFC 7518 sections 3.3 and 3.5, RFC 8017 sections 8 and 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from tests.support.signatures.cases import MESSAGE, Case, mutations

SIZE = 256
"""Bytes of a modulus and of a signature."""


class _Key:
    """A private key, for the bare operation of RSA (RFC 8017 section 5.2.1)."""

    def __init__(self, p: int, q: int) -> None:
        self.p, self.q, self.e = p, q, 65537
        self.n = p * q
        d = pow(self.e, -1, (p - 1) * (q - 1))
        self._d_at_p, self._d_at_q, self._q_inverse = d % (p - 1), d % (q - 1), pow(q, -1, p)
        self.public: RSAPublicKey = RSAPublicNumbers(self.e, self.n).public_key()

    def signed(self, encoded: bytes) -> int:
        """Any bytes to the power of d, by the Chinese remainder theorem."""
        number = int.from_bytes(encoded)
        at_p = pow(number, self._d_at_p, self.p)
        at_q = pow(number, self._d_at_q, self.q)
        return at_q + (at_p - at_q) * self._q_inverse % self.p * self.q


def _prime(name: bytes, offset: int) -> int:
    """A prime of 1024 bits: ``offset`` above a number that is the same in every run."""
    start = int.from_bytes(hashlib.shake_256(name).digest(128)) | 3 << 1022 | 1
    return start + offset


KEY = _Key(_prime(b"p", 816), _prime(b"q", 114))
OTHER = _Key(_prime(b"other p", 122), _prime(b"other q", 640))

DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""What goes before a SHA-256 (RFC 8017 section 9.2, note 1)."""

DIGEST = hashlib.sha256(MESSAGE).digest()


def pkcs1_cases() -> Iterator[Case]:
    """RS256 signatures by one key, and what is like them."""
    encoded = _pkcs1(DIGEST_INFO + DIGEST)
    valid = _case("RS256", "untouched", encoded, valid=True)
    yield from _cases(valid, encoded)
    yield _case("RS256", "the padding of PS256", _pss(bytes(32)))
    for name, wrong in _wrong_pkcs1():
        yield _case("RS256", name, wrong)
    yield from _short_numbers("RS256", leading_zero=134, room=0)


def pss_cases() -> Iterator[Case]:
    """PS256 signatures by one key, and what is like them."""
    encoded = _pss(bytes(range(32)))
    valid = _case("PS256", "untouched", encoded, valid=True)
    yield from _cases(valid, encoded)
    yield _case("PS256", "the padding of RS256", _pkcs1(DIGEST_INFO + DIGEST))
    for salt in (bytes(32), b"\xff" * 32, DIGEST):
        yield _case("PS256", f"salt {salt[:4].hex()}", _pss(salt), valid=True)
    for name, wrong in _wrong_pss():
        yield _case("PS256", name, wrong)
    yield from _short_numbers("PS256", leading_zero=914, room=3)


def _cases(valid: Case, encoded: bytes) -> Iterator[Case]:
    """What both paddings have in common."""
    yield from mutations(valid)
    yield from _numbers(valid)
    yield valid.wrong("another key's", OTHER.signed(encoded).to_bytes(SIZE))


def _case(algorithm: str, name: str, encoded: bytes, *, valid: bool = False) -> Case:
    signature = KEY.signed(encoded).to_bytes(SIZE)
    return Case(name, algorithm, KEY.public, MESSAGE, signature, valid)


def _numbers(valid: Case) -> Iterator[Case]:
    s, n = int.from_bytes(valid.signature), KEY.n
    for name, number in {
        "0": 0,
        "1": 1,
        "2": 2,
        "n - 1": n - 1,
        "n": n,
        "n + 1": n + 1,
        "-s": n - s,
        "1/s": pow(s, -1, n),
        "s + 1": s + 1,
        "s s": s * s % n,
        "opened": pow(s, KEY.e, n),
        "p": KEY.p,
    }.items():
        yield valid.wrong(name, number.to_bytes(SIZE))
    for size in (SIZE + 1, SIZE + 4, 2 * SIZE):
        yield valid.wrong(f"in {size} bytes", s.to_bytes(size))
        yield valid.wrong(f"s + n in {size} bytes", (s + n).to_bytes(size))
    yield valid.wrong("little endian", s.to_bytes(SIZE, "little"))
    yield valid.wrong("decimal", str(s).encode())


def _short_numbers(algorithm: str, *, leading_zero: int, room: int) -> Iterator[Case]:
    """A signature that begins with a zero byte, and one that leaves room for the modulus.

    The numbers of the messages that have them are known: the keys are the same in every run.
    """
    valid = _over(algorithm, leading_zero)
    assert valid.signature[0] == 0
    yield valid
    yield valid.wrong("without its leading zero", valid.signature[1:])
    yield valid.wrong("followed by its leading zero", valid.signature[1:] + b"\0")
    valid = _over(algorithm, room)
    yield valid
    s_and_n = int.from_bytes(valid.signature) + KEY.n
    yield valid.wrong(f"s + n in {SIZE} bytes", s_and_n.to_bytes(SIZE))


def _over(algorithm: str, number: int) -> Case:
    """A valid signature over another message."""
    message = b"message %d" % number
    digest = hashlib.sha256(message).digest()
    if algorithm == "RS256":
        encoded = _pkcs1(DIGEST_INFO + digest)
    else:
        encoded = _pss(bytes(32), digest=digest)
    signature = KEY.signed(encoded).to_bytes(SIZE)
    return Case(f"over {message!r}", algorithm, KEY.public, message, signature, valid=True)


def _pkcs1(
    content: bytes, *, start: bytes = b"\0\1", fill: bytes = b"\xff", separator: bytes = b"\0"
) -> bytes:
    """EMSA-PKCS1-v1_5 (RFC 8017 section 9.2)."""
    filled = SIZE - len(start) - len(separator) - len(content)
    return start + fill * filled + separator + content


def _wrong_pkcs1() -> Iterator[tuple[str, bytes]]:
    right = _pkcs1(DIGEST_INFO + DIGEST)
    yield from _wrong_digest_info()
    yield from _wrong_padding()
    # The first bytes, some of the padding, and all that follows it.
    follows = SIZE - len(DIGEST_INFO) - len(DIGEST) - 2
    for index in (0, 1, 2, 3, 9, 10, 11, 100, *range(follows, SIZE)):
        changed = bytearray(right)
        changed[index] ^= 1
        yield f"byte {index} of the encoding changed", bytes(changed)


def _wrong_digest_info() -> Iterator[tuple[str, bytes]]:
    """RFC 8017 section 8.2.2 compares encodings: of DER, and with NULL for parameters."""
    oid = "0609608648016503040201"
    for name, info in {
        "no parameters": f"302f300b{oid}0420",
        "no parameters, lengths as with them": f"3031300d{oid}0420",
        "parameters of another type": f"3031300d{oid}04000420",
        "NULL with content": f"3033300f{oid}050200000420",
        "NULL in a long form": f"3032300e{oid}0581000420",
        "two NULLs": f"3033300f{oid}050005000420",
        "long form of the outer length": f"308131300d{oid}05000420",
        "longer form of the outer length": f"30820031300d{oid}05000420",
        "indefinite outer length": f"3080300d{oid}05000420",
        "long form of the inner length": f"303230810d{oid}05000420",
        "long form of the OID's length": f"3032300e0681{oid[2:]}05000420",
        "OID with padding": "3032300e060a608648018065030402010500" + "0420",
        "long form of the digest's length": f"3032300d{oid}0500048120",
        "digest as a bit string": f"3031300d{oid}05000320",
        "digest in pieces": f"3031300d{oid}05002420",
        "outer set": f"3131300d{oid}05000420",
        "inner set": f"3031310d{oid}05000420",
        "OID of SHA-1": "3029300906052b0e03021a05000420",
        "OID of SHA-384": "3031300d0609608648016503040202" + "05000420",
        "OID of SHA-512": "3031300d0609608648016503040203" + "05000420",
        "OID of SHA-512/256": "3031300d0609608648016503040206" + "05000420",
        "OID of SHA3-256": "3031300d0609608648016503040208" + "05000420",
        "OID of MD5": "3030300c06082a864886f70d020505000420",
        "no DigestInfo": "",
        "a bare octet string": "0420",
    }.items():
        yield name, _pkcs1(bytes.fromhex(info) + DIGEST)
    for function in ("md5", "sha1", "sha384", "sha512", "sha3_256"):
        digest = hashlib.new(function, MESSAGE, usedforsecurity=False).digest()
        yield f"hash {function} as SHA-256", _pkcs1(DIGEST_INFO + digest)
    yield "over the message's hash", _pkcs1(DIGEST_INFO + hashlib.sha256(DIGEST).digest())
    yield "no digest", _pkcs1(DIGEST_INFO)
    yield "digest without its last byte", _pkcs1(DIGEST_INFO + DIGEST[:-1])
    longer = bytearray(DIGEST_INFO)
    longer[1] += 1
    longer[-1] += 1
    yield "digest with a byte more", _pkcs1(bytes(longer) + DIGEST + b"\0")
    inside = bytearray(DIGEST_INFO)
    inside[1] += 2
    yield "something after the digest, inside", _pkcs1(bytes(inside) + DIGEST + b"\5\0")


def _wrong_padding() -> Iterator[tuple[str, bytes]]:
    content = DIGEST_INFO + DIGEST
    for length in (1, 2, 8, 32, 100, 194):
        for byte in (b"\0", b"\xff"):
            yield f"{length} bytes {byte.hex()} at the end", _pkcs1(content + byte * length)
    # The forgery for small exponents (Bleichenbacher 2006): garbage where padding should be.
    for padding in (0, 1, 7, 8):
        short = b"\0\1" + b"\xff" * padding + b"\0" + content
        yield f"{padding} bytes of padding", short + bytes(SIZE - len(short))
        yield f"{padding} bytes of padding, at the right", bytes(SIZE - len(short)) + short
    for start in (b"\0\0", b"\0\2", b"\0\3", b"\0\xff", b"\1\1", b"\0", b"\0\1\1"):
        yield f"starts with {start.hex()}", _pkcs1(content, start=start)
    for fill in (b"\0", b"\1", b"\xfe", b"\x7f"):
        yield f"filled with {fill.hex()}", _pkcs1(content, fill=fill)
    for separator in (b"", b"\1", b"\xff", b"\0\0", b"\0\xff\0"):
        yield f"separated by {separator.hex()}", _pkcs1(content, separator=separator)
    yield "no padding", bytes(SIZE - len(content)) + content
    yield "the digest alone", bytes(SIZE - len(DIGEST)) + DIGEST
    yield "the message", MESSAGE.rjust(SIZE, b"\0")


def _mask(seed: bytes, length: int, function: str) -> bytes:
    """MGF1 (RFC 8017 appendix B.2.1)."""
    blocks = (
        hashlib.new(function, seed + count.to_bytes(4), usedforsecurity=False).digest()
        for count in range(length // 16 + 1)
    )
    return b"".join(blocks)[:length]


def _pss(
    salt: bytes,
    *,
    digest: bytes = DIGEST,
    function: str = "sha256",
    mask_function: str = "sha256",
    zeros: int = 8,
    salt_first: bool = False,
    separator: bytes = b"\1",
    fill: tuple[int, int] | None = None,
    first_bit: int = 0,
    trailer: bytes = b"\xbc",
) -> bytes:
    """EMSA-PSS (RFC 8017 section 9.1.1). The defaults make what is valid.

    Args:
        salt: 32 bytes of it in PS256.
        digest: of the message.
        function: the hash.
        mask_function: the hash of the mask.
        zeros: how many zero bytes go before the digest.
        salt_first: whether the salt goes before the digest.
        separator: goes before the salt.
        fill: where a byte of the zeros before the separator is another one, and which.
        first_bit: the bit beyond the modulus.
        trailer: the end.
    """
    hashed = bytes(zeros) + (salt + digest if salt_first else digest + salt)
    h = hashlib.new(function, hashed, usedforsecurity=False).digest()
    length = SIZE - len(h) - len(trailer)
    block = bytearray((separator + salt).rjust(length, b"\0"))
    if fill is not None:
        block[fill[0]] = fill[1]
    masked = bytearray(
        one ^ two for one, two in zip(block, _mask(h, length, mask_function), strict=True)
    )
    masked[0] = masked[0] & 0x7F | first_bit << 7
    return bytes(masked) + h + trailer


def _wrong_pss() -> Iterator[tuple[str, bytes]]:
    salt = hashlib.sha256(b"salt").digest()
    for length in (*range(32), *range(33, 40), 48, 64, 100, SIZE - 32 - 2):
        yield f"salt of {length} bytes", _pss((salt * 8)[:length])
    for function in ("sha1", "sha384", "sha512", "sha3_256"):
        digest = hashlib.new(function, MESSAGE, usedforsecurity=False).digest()
        of_its_length = (salt * 2)[: len(digest)]
        both = _pss(of_its_length, digest=digest, function=function, mask_function=function)
        yield f"{function} everywhere", both
        yield f"{function} of the message", _pss(salt, digest=digest)
        yield f"{function} of M'", _pss(salt, function=function)
        yield f"mask of {function}", _pss(salt, mask_function=function)
    for trailer in (b"\0", b"\xbb", b"\xbd", b"\xcc", b"\x33\xcc", b"\x34\xcc", b"\xbc\xbc", b""):
        yield f"trailer {trailer.hex()}", _pss(salt, trailer=trailer)
    for separator in (b"", b"\0", b"\2", b"\x81", b"\xff", b"\1\1", b"\1\0"):
        yield f"separator {separator.hex()}", _pss(salt, separator=separator)
    for index in (0, 1, 2, 50, 150, SIZE - 32 - 1 - 32 - 2):
        for byte in (0x01, 0x40):
            yield f"byte {index} before the separator {byte:02x}", _pss(salt, fill=(index, byte))
    for zeros in (0, 7, 9):
        yield f"{zeros} zeros before the digest", _pss(salt, zeros=zeros)
    yield "salt before the digest", _pss(salt, salt_first=True)
    yield "message instead of its hash", _pss(salt, digest=MESSAGE)
    yield "over the message's hash", _pss(salt, digest=hashlib.sha256(DIGEST).digest())
    yield "no digest", _pss(salt, digest=b"")
    yield "the bit beyond the modulus", _pss(salt, first_bit=1)
    right = _pss(salt)
    # All of H, some of the masked block: its salt is at its end.
    for index in (0, 1, 100, *range(SIZE - 32 - 1 - 33, SIZE)):
        changed = bytearray(right)
        changed[index] ^= 0x10
        yield f"byte {index} of the encoding changed", bytes(changed)
