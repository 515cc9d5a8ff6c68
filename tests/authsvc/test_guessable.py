"""Secrets that could be guessed, and those that chance has made."""

from __future__ import annotations

import base64
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from authsvc.callers import ServiceTokenFile
from authsvc.guessable import MIN_BITS, estimated_bits, fault
from authsvc.tokens.keys import MIN_SECRET_BYTES, KeyLoadError, load_secret_file

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
]


@pytest.mark.parametrize("secret", GUESSABLE)
def test_a_secret_that_can_be_guessed_is_refused_and_its_file_named(
    tmp_path: Path, secret: bytes
) -> None:
    assert len(secret) >= MIN_SECRET_BYTES
    path = tmp_path / "secret"
    path.write_bytes(secret + b"\n")
    with pytest.raises(KeyLoadError, match="can be guessed") as refused:
        load_secret_file(path)
    assert str(path) in str(refused.value)
    assert "openssl rand" in str(refused.value)
    shown = str(refused.value).replace(str(path), "")
    assert secret.decode("latin-1")[:12] not in shown


def test_a_service_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("operator" * 5)
    with pytest.raises(ValueError, match="can be guessed"):
        ServiceTokenFile(path)


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
    ],
    ids=["raw", "hex", "hex of half", "HEX", "base64", "32 of base64", "base64url", "base32"],
)
@pytest.mark.parametrize("size", [32, 64])
def test_what_chance_has_made_is_never_refused(made: Callable[[int], bytes], size: int) -> None:
    for _ in range(300):
        assert fault(made(size)) == ""


def test_chance_leaves_a_margin() -> None:
    # The shortest secret of the fewest symbols, by a fixed seed: the same ones each time.
    chance = random.Random(16)
    bits = [estimated_bits(f"{chance.getrandbits(128):032x}".encode()) for _ in range(2_000)]
    assert min(bits) > MIN_BITS + 10
