"""Guessable secrets, and random ones."""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
import string
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.common.guessable import MIN_BITS, estimated_bits, fault
from authsvc.tokens.algorithms import ALGORITHMS
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.secret_files import load_secret_file

GUESSABLE = [
    b"a" * 32,
    b"\0" * 64,
    b"ab" * 16,
    b"0" * 256,
    b"12345678901234567890123456789012",
    b"0123456789abcdef" * 4,
    bytes(range(32)),
    b"abcdefghijklmnopqrstuvwxyz1234567890",
    b"qwertyuiopasdfghjklzxcvbnm1234567890",
    b"secret" * 6,
    b"changeme" * 4,
    b"CHANGEME-changeme-ChangeMe-changeme",
    b"your-256-bit-secret" * 2,
    b"a-string-secret-at-least-256-bits-long",
    b"my-super-secret-jwt-key-that-is-long-enough",
    b"please_change_this_secret_in_production",
    b"correct horse battery staple correct horse",
    b"operator-" + b"x" * 40,
    base64.b64encode(b"secret" * 6),
    (b"s" * 32).hex().encode(),
    b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    ),
    b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    b"09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7",
    b"3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    b"your-super-secret-jwt-token-with-at-least-32-characters-long",
    b"super-secret-jwt-token-with-at-least-32-characters-long",
    b"!ChangeThisMercureHubJWTSecretKey!",
    b"my-32-character-ultra-secure-and-ultra-long-secret",
    b"secretKey-for-jwt-token-generation-min-256-bits",
    b"lorem ipsum dolor sit amet consectetur adipiscing",
    b"the quick brown fox jumps over the lazy dog",
    b"replace-me-with-a-really-long-random-string-in-production",
    b"this_is_a_very_secure_signing_key_for_the_api",
    base64.b64encode(b"my-super-secret-jwt-key-that-is-long-enough"),
    base64.urlsafe_b64encode(b"my-super-secret-jwt-key-that-is-long-enough").rstrip(b"="),
    b"my-super-secret-jwt-key-that-is-long-enough".hex().encode(),
]

DIGESTED = ["", "password", "Password", "secret", "changeme", "123456", "admin", "test", "secret\n"]
DIGESTED.append("a-string-secret-at-least-256-bits-long")


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("text", DIGESTED)
def test_a_digest_of_a_common_word_is_rejected(text: str, digest: str) -> None:
    raw = hashlib.new(digest, text.encode(), usedforsecurity=False).digest()
    spellings = {
        *(raw.hex().encode(), raw.hex().upper().encode(), raw.hex()[:32].encode()),
        *(base64.b64encode(raw), base64.urlsafe_b64encode(raw).rstrip(b"=")),
        *((raw,) if len(raw) >= ALGORITHMS["HS256"].min_secret_bytes else ()),
    }
    expected = "it is the digest of a common word or of an empty text"
    assert {fault(secret) for secret in spellings} == {expected}


@pytest.mark.parametrize("secret", GUESSABLE)
def test_a_guessable_secret_is_rejected_and_its_file_named(tmp_path: Path, secret: bytes) -> None:
    assert len(secret) >= ALGORITHMS["HS256"].min_secret_bytes
    path = tmp_path / "secret"
    path.write_bytes(secret + b"\n")
    with pytest.raises(KeyLoadError, match="can be guessed") as refused:
        load_secret_file(path)
    assert str(path) in str(refused.value)
    assert "openssl rand" in str(refused.value)
    shown = str(refused.value).replace(str(path), "")
    assert secret.decode("latin-1")[:12] not in shown


def test_a_guessable_service_token_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("operator" * 5)
    with pytest.raises(ValueError, match="can be guessed"):
        ServiceTokenFile(path)


def letters_and_digits(size: int) -> bytes:
    return "".join(
        secrets.choice(string.ascii_letters + string.digits) for _ in range(size)
    ).encode()


@pytest.mark.parametrize(
    "made",
    [
        secrets.token_bytes,
        lambda size: secrets.token_hex(size).encode(),
        lambda size: secrets.token_hex(size // 2).encode(),
        lambda size: secrets.token_hex(size).upper().encode(),
        lambda size: base64.b64encode(secrets.token_bytes(size)),
        lambda size: base64.b64encode(secrets.token_bytes(size * 3 // 4)),
        lambda size: secrets.token_urlsafe(size).encode(),
        lambda size: base64.b32encode(secrets.token_bytes(size)),
        lambda size: b"".join(str(uuid.uuid4()).encode() for _ in range(size // 32)),
        letters_and_digits,
        lambda size: base64.b64encode(letters_and_digits(size)),
        lambda size: letters_and_digits(size).hex().encode(),
        lambda size: base64.b64encode(secrets.token_hex(size // 2).encode()),
    ],
    ids=[
        *("raw", "hex", "hex of half", "HEX", "base64", "32 of base64", "base64url", "base32"),
        *("uuid", "letters", "base64 of letters", "hex of letters", "base64 of hex"),
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_random_secrets_are_never_rejected(made: Callable[[int], bytes], size: int) -> None:
    for _ in range(300):
        assert fault(made(size)) == ""


def test_random_secrets_have_a_margin() -> None:
    # The shortest secret of the fewest symbols, by a fixed seed: the same ones each time.
    chance = random.Random(16)
    bits = [estimated_bits(f"{chance.getrandbits(128):032x}".encode()) for _ in range(2_000)]
    assert min(bits) > MIN_BITS + 10
