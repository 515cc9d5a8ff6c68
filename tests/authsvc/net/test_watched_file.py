"""When a watched file is reported as changed, and what of a report is new."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS, NewEntries, WatchedFile
from tests.support.clock import START

MOMENT = 1_000_000_000


def rewritten(path: Path, content: str, at: int = MOMENT) -> None:
    """Written in place at a moment, in nanoseconds: the clock of files is coarse."""
    path.write_text(content)
    os.utime(path, ns=(at, at))


def replaced(path: Path, content: str, at: int = MOMENT) -> None:
    """Another file of the same name."""
    fresh = path.with_suffix(".new")
    rewritten(fresh, content, at)
    fresh.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: rewritten(path, "other", MOMENT + 1),
        lambda path: rewritten(path, "longer"),
        lambda path: replaced(path, "first"),
        lambda path: path.chmod(0o600),
        lambda path: path.unlink(),
    ],
    ids=["content", "size", "inode", "mode", "gone"],
)
def test_a_change_is_reported_until_it_is_marked_read(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    rewritten(path, "first")
    path.chmod(0o644)
    file = WatchedFile(other, path)
    assert not file.changed_now()
    change(path)
    assert file.changed_now()
    assert file.changed_now()
    file.mark_read()
    assert not file.changed_now()
    other.write_text("")
    assert file.changed_now()


def test_a_change_stays_one_where_the_old_file_comes_back(tmp_path: Path) -> None:
    """Part of what was read in between may be in use."""
    link, old, new = (tmp_path / name for name in ("link", "old", "new"))
    rewritten(old, "first")
    rewritten(new, "second")
    link.symlink_to(old)
    file = WatchedFile(link)
    for target in (new, old):
        link.unlink()
        link.symlink_to(target)
        assert file.changed_now()
    file.mark_read()
    assert not file.changed_now()


def test_metadata_is_read_once_in_the_interval(tmp_path: Path) -> None:
    path = tmp_path / "file"
    rewritten(path, "first")
    file = WatchedFile(path)
    assert not file.changed(START)
    rewritten(path, "second")
    assert not file.changed(START + WATCH_INTERVAL_SECONDS / 2)
    assert file.changed(START + WATCH_INTERVAL_SECONDS)
    file.mark_read()
    path.unlink()
    assert file.changed(START)  # a clock that is set back does not stop the checks


def test_a_change_between_check_and_read_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "file"
    rewritten(path, "first")
    file = WatchedFile(path)
    rewritten(path, "second")
    assert file.changed(START)
    rewritten(path, "the third")
    file.mark_read()
    assert file.changed(START + WATCH_INTERVAL_SECONDS)


def test_an_entry_is_new_unless_the_last_report_had_it() -> None:
    entries: NewEntries[str] = NewEntries()
    assert entries.of(["a", "b"]) == ["a", "b"]
    assert entries.of(["b", "c"]) == ["c"]
    assert entries.of([]) == []
    assert entries.of(["c"]) == ["c"]
