"""Stored keys are encrypted, and the file for it is checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from authsvc.assertions.sealing import FileSeal, NoSeal, SealError

SECRET = "5f0c7a3b1d9e48620a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b"
OTHER = "a19b8c7d6e5f40312233445566778899aabbccddeeff00112233445566778899"[::-1]
NAME = "assertion-keys"


def secret_file(folder: Path, secret: str = SECRET, mode: int = 0o600) -> Path:
    path = folder / "encryption.key"
    path.write_text(secret)
    path.chmod(mode)
    return path


def test_what_is_sealed_is_opened(tmp_path: Path) -> None:
    seal = FileSeal(secret_file(tmp_path))
    for content in (b"", b"content", os.urandom(10_000)):
        assert seal.open(NAME, seal.seal(NAME, content)) == content


def test_it_shows_nothing_and_never_repeats(tmp_path: Path) -> None:
    seal = FileSeal(secret_file(tmp_path))
    sealed = {seal.seal(NAME, b"the private key") for _ in range(100)}
    assert len(sealed) == len({it[1:13] for it in sealed}) == 100
    assert not any(b"private" in it for it in sealed)


def test_white_space_around_the_secret_does_not_count(tmp_path: Path) -> None:
    sealed = FileSeal(secret_file(tmp_path)).seal(NAME, b"content")
    assert FileSeal(secret_file(tmp_path, f" {SECRET}\n")).open(NAME, sealed) == b"content"


@pytest.mark.parametrize("at", [0, 1, 5, 13, 20, -17, -16, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    seal = FileSeal(secret_file(tmp_path))
    sealed = bytearray(seal.seal(NAME, b"content of some length"))
    sealed[at] ^= 1
    with pytest.raises(SealError):
        seal.open(NAME, bytes(sealed))


@pytest.mark.parametrize("length", [0, 1, 12, 13, 20, 28])
def test_what_is_cut_off_is_noticed(tmp_path: Path, length: int) -> None:
    seal = FileSeal(secret_file(tmp_path))
    with pytest.raises(SealError):
        seal.open(NAME, seal.seal(NAME, b"content")[:length])


def test_another_name_does_not_open_it(tmp_path: Path) -> None:
    seal = FileSeal(secret_file(tmp_path))
    with pytest.raises(SealError, match="does not decrypt"):
        seal.open("other", seal.seal(NAME, b"content"))


def test_another_secret_does_not_open_it(tmp_path: Path) -> None:
    sealed = FileSeal(secret_file(tmp_path)).seal(NAME, b"content")
    with pytest.raises(SealError, match=r"encryption\.key does not decrypt.*assertions rotate"):
        FileSeal(secret_file(tmp_path, OTHER)).open(NAME, sealed)


def test_what_is_not_sealed_is_not_opened(tmp_path: Path) -> None:
    clear = NoSeal().seal(NAME, b'{"format": 1}')
    with pytest.raises(SealError, match="not encrypted"):
        FileSeal(secret_file(tmp_path)).open(NAME, clear)


# The file.


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666, 0o777, 0o444])
def test_a_file_that_all_users_can_open_is_rejected(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, mode=mode)
    with pytest.raises(SealError, match=f"mode {mode:o}.*chmod 600 {path}"):
        FileSeal(path).check()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_of_its_owner_or_group_is_used(tmp_path: Path, mode: int) -> None:
    FileSeal(secret_file(tmp_path, mode=mode)).check()


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "is empty"),
        (SECRET[:31], "less than 32 characters"),
        ("a" * 64, "can be guessed"),
        ("correct horse battery staple correct horse", "can be guessed"),
    ],
)
def test_a_weak_secret_is_rejected_and_the_remedy_named(
    tmp_path: Path, secret: str, fault: str
) -> None:
    with pytest.raises(SealError, match=f"{fault}.*openssl rand -hex 32") as caught:
        FileSeal(secret_file(tmp_path, secret)).check()
    assert not secret or secret not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SealError, match=r"none\.key: No such file.*openssl rand -hex 32"):
        FileSeal(tmp_path / "none.key").check()


def test_a_file_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(SealError, match="not text"):
        FileSeal(path).check()
