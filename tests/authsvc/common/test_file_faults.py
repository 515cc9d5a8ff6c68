"""The line for a file that cannot be read says where it was looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.common.file_faults import file_fault, relative_to


def _fault(path: Path) -> str:
    with pytest.raises(OSError, match=path.name) as caught:
        path.read_bytes()
    return file_fault(path, caught.value)


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    says = "No such file or directory"
    assert _fault(Path("tls/key")) == f"tls/key: {says} (relative to {tmp_path})"
    assert _fault(tmp_path / "key") == f"{tmp_path}/key: {says}"


def test_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").mkdir()
    assert _fault(Path("key")) == "key: Is a directory"


def test_without_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert relative_to(Path("key")) == ""
