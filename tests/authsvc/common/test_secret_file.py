"""The one reader of secrets in files."""

from __future__ import annotations

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
