"""Files that may change while the program runs: certificates, keys, tokens, operators.

The owner of a file calls ``changed`` before each use. If that is true, it reads the file, and calls
``mark_read`` once it uses what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

WATCH_INTERVAL_SECONDS = 0.5
"""How often a file's metadata is read at most, and how late a change is noticed at most."""


class _Reloads:
    """How often all files have been asked for again."""

    count = 0


def read_all_again() -> None:
    """Have the owner of each file read it at its next use, whether it has changed or not."""
    _Reloads.count += 1


_Stamp = tuple[int, int, int, int]

EntryT = TypeVar("EntryT")


class WatchedFile:
    """Whether a file has changed since it was read last; or any of several that belong together.

    Made before the first read, which then needs no ``mark_read``: a change in between is noticed.

    Args:
        paths: the files; one that does not exist may come to exist.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._read = self._seen = self._stamps()
        self._checked = float("-inf")
        self._is_pending = False
        self._reloads = _Reloads.count

    def changed(self, now: float) -> bool:
        """Whether to read the files again, as of ``WATCH_INTERVAL_SECONDS`` ago at most.

        Args:
            now: seconds, of any origin, but always of the same one.
        """
        is_recent = 0.0 <= now - self._checked < WATCH_INTERVAL_SECONDS
        if is_recent and self._reloads == _Reloads.count:
            return False
        self._checked = now
        return self.changed_now()

    def changed_now(self) -> bool:
        """Whether to read the files again, whenever they were checked last."""
        self._seen = self._stamps()
        # A change that could not be used stays one, also where the old file has come back since:
        # part of what was read in between may be in use.
        is_requested = self._reloads != _Reloads.count
        self._reloads = _Reloads.count
        self._is_pending = self._is_pending or is_requested or self._seen != self._read
        return self._is_pending

    def mark_read(self) -> None:
        """Stop reporting the change that the last check found.

        Until this is called, each check reports the same change again: a file that could not be
        used is tried again.
        """
        self._read = self._seen
        self._is_pending = False

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(map(_stamp, self.paths))


class NewEntries(Generic[EntryT]):
    """Which entries of a report the report before it did not have.

    For logging: what is wrong with a file is found at each read, and logged once.
    """

    def __init__(self) -> None:
        self._last: frozenset[EntryT] = frozenset()

    def of(self, report: Iterable[EntryT]) -> list[EntryT]:
        """The new entries, in their order."""
        entries = tuple(report)
        new = [entry for entry in entries if entry not in self._last]
        self._last = frozenset(entries)
        return new


def _stamp(path: Path) -> _Stamp | None:
    """What differs between two states of a file; None where the file cannot be examined.

    The size differs for two writes within one tick of the file system's clock. The time of the last
    change of metadata is for permissions, which may be what kept the file from being read.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_ctime_ns
