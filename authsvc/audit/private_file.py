"""A file of events: appended to by several processes, readable by its owner alone."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOKS = 3
LOOK_SECONDS = 0.0002
"""How often, and how long apart, it is looked whether the last line has an end: a write that
crosses a page is seen in parts."""

_CLOSED = -1
_UNKNOWN = -1


class PrivateFile:
    """A file that whole lines are appended to, followed when it is rotated.

    Not thread-safe. Processes, and several objects of one process, can append to one file: each
    ``append`` is one write at its end.

    Args:
        path: the file; its folder is made if it is missing.
        check_seconds: how long a rotation may be unnoticed; 0: each ``append`` looks.
        waits: whether ``append`` waits for room in a pipe, or fails where there is none.
        clock: a monotonic clock, in seconds.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(
        self,
        path: Path,
        *,
        check_seconds: float = 0.0,
        waits: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path.absolute()
        self._name = str(self.path)
        self._check_seconds = check_seconds
        self._clock = clock
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._waits = waits
        self._file = _open(self.path, waits=waits)
        self._is_in_line = False
        # Its size after the last write. While it has this size, nobody else has written to it, and
        # it ends with a line.
        self._end = _UNKNOWN
        self._next_check = clock() + check_seconds

    def append(self, lines: bytes) -> None:
        """Append lines, each with its end.

        After an earlier write that did not fit, they begin on a line of their own.

        Raises:
            OSError: not all of them are written; the next call tries the file again.
        """
        if self._file == _CLOSED:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        size = self._followed().st_size
        if self._is_in_line or (size not in (0, self._end) and _is_torn(self._file)):
            lines = b"\n" + lines
        left, self._end = lines, _UNKNOWN
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            if len(left) < len(lines):
                # Of a file, the next append looks: others may have ended the line.
                self._is_in_line = not _is_regular(self._file)
            raise
        self._is_in_line = False
        self._end = size + len(lines)

    def close(self) -> None:
        """Close the file. A later ``append`` fails."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def _followed(self) -> os.stat_result:
        """The status of the file; of its successor, where it was rotated."""
        status = os.fstat(self._file)
        now = self._clock()
        if now < self._next_check:
            return status
        if not _is_at(self._name, status):
            successor = _open(self.path, waits=self._waits)
            os.close(self._file)
            self._file = successor
            self._is_in_line = False
            status = os.fstat(successor)
        self._next_check = now + self._check_seconds
        return status


def check_file(path: Path) -> None:
    """Check that ``PrivateFile`` could open a file, as the user of this process. Nothing is made or
    changed.

    Raises:
        OSError: it could not: as ``PrivateFile``.
    """
    path = path.absolute()
    try:
        descriptor = os.open(path, _FLAGS | os.O_NONBLOCK)
    except FileNotFoundError:
        _check_folder(path.parent)
        return
    try:
        # Its permissions will be set.
        if not _is_device(descriptor) and os.geteuid() not in (0, os.fstat(descriptor).st_uid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    finally:
        os.close(descriptor)


def is_unread_pipe(path: Path) -> bool:
    """Whether a file is a pipe that no process reads. A running ``PrivateFile`` counts as one."""
    try:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            return False
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def existing_parent(path: Path) -> Path:
    """The folder of a file, or the nearest one above it that exists; of an absolute path."""
    return next(it for it in path.parents if os.path.lexists(it))


def _check_folder(folder: Path) -> None:
    """Check that a file can be made in a folder, which may have to be made first."""
    existing = existing_parent(folder / "file")
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


# Read as well: for the end of what is there, and so that a pipe needs no reader.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


def _open(path: Path, *, waits: bool) -> int:
    flags = _FLAGS | os.O_CREAT
    descriptor = os.open(path, flags if waits else flags | os.O_NONBLOCK, 0o600)
    try:
        if not _is_device(descriptor):
            # An existing file may have other permissions.
            os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_device(descriptor: int) -> bool:
    """Whether it is a device, such as ``/dev/null``: its permissions are other programs', too."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _is_at(name: str, status: os.stat_result) -> bool:
    """Whether a path is that of the file with this status."""
    with suppress(FileNotFoundError):
        return os.path.samestat(status, os.lstat(name))
    return False


def _is_torn(descriptor: int) -> bool:
    """Whether the last line has no end, and gets none: another process may be writing it."""
    for number in range(LOOKS):
        if number:
            time.sleep(LOOK_SECONDS)
        # A pipe has no size.
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) in (b"\n", b""):
            return False
    return True
