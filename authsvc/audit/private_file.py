"""A file of events: appended to by several processes, readable by its owner alone."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CLOSED = -1


class PrivateFile:
    """A file that whole lines are appended to, followed when it is rotated away.

    Not thread-safe. Processes, and several objects of one process, can append to one file: each
    ``append`` is one write at its end.

    Args:
        path: the file; its folder is made if it is missing.
        check_seconds: how long a rotation may be unnoticed; 0: each ``append`` looks.
        clock: a monotonic clock, in seconds.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(
        self,
        path: Path,
        *,
        check_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path.absolute()
        self._check_seconds = check_seconds
        self._clock = clock
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open(self.path)
        self._next_check = clock() + check_seconds

    def append(self, lines: bytes) -> None:
        """Append lines, each with its end.

        After an earlier write that did not fit, they begin on a line of their own.

        Raises:
            OSError: not all of them are written; the next call tries the file again.
        """
        if self._file == _CLOSED:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._follow()
        if _is_torn(self._file):
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def close(self) -> None:
        """Close the file. A later ``append`` fails."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def _follow(self) -> None:
        now = self._clock()
        if now < self._next_check:
            return
        if not _is_same(self._file, self.path):
            successor = _open(self.path)
            os.close(self._file)
            self._file = successor
        self._next_check = now + self._check_seconds


def _open(path: Path) -> int:
    # Read as well: for the end of what is there.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        # An existing file may have other permissions.
        os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_same(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _is_torn(descriptor: int) -> bool:
    """Whether the last line has no end."""
    # A pipe has no size.
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) not in (b"\n", b"")
