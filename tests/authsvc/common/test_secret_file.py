"""The one reader of secrets in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from authsvc.common.secret_file import SecretFileError, read_secret_file


def test_white_space_around_a_secret_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  hush hush\n\n")
    assert read_secret_file(path) == "hush hush"


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, ": No such file or directory"), (b" \n", " is empty"), (b"hush\xff", ": not text")],
)
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretFileError) as caught:
        read_secret_file(path)
    assert str(caught.value) == f"{path}{says}"


@pytest.mark.parametrize(
    ("mode", "content", "says"),
    [(0o644, "hush", "open to all users"), (0o600, "hush" * 9, "larger than 8 bytes")],
)
def test_a_file_that_takes_the_place_of_another_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, content: str, says: str
) -> None:
    path, before = tmp_path / "secret", tmp_path / "before"
    before.write_text("hush")
    before.chmod(0o600)
    path.write_text(content)
    path.chmod(mode)
    status = before.stat()
    monkeypatch.setattr(Path, "stat", lambda self: status)
    with pytest.raises(SecretFileError, match=says):
        read_secret_file(path, max_bytes=8, is_private=True)


def test_a_file_that_grows_is_not_read_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("hush")
    status = path.stat()
    monkeypatch.setattr(os, "fstat", lambda descriptor: status)
    monkeypatch.setattr(Path, "stat", lambda self: status)
    path.write_text("hush" * 9)
    with pytest.raises(SecretFileError, match="larger than 8 bytes"):
        read_secret_file(path, max_bytes=8)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "secret", tmp_path / "before"
    before.write_text("hush")
    os.mkfifo(path)
    status = before.stat()
    monkeypatch.setattr(Path, "stat", lambda self: status)
    flags: list[int] = []
    opened = os.open

    def opening(path: str, given: int) -> int:
        flags.append(given)
        return opened(path, given | os.O_NONBLOCK)  # a test does not wait either

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(SecretFileError, match="is no regular file"):
        read_secret_file(path)
    assert flags[0] & os.O_NONBLOCK
