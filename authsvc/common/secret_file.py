"""Secrets in files: passwords, client secrets, keys of AWS. Each is read when it is needed."""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

from authsvc.common.file_faults import file_fault, is_missing

log = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024
"""The largest file that is read for a secret."""


class SecretFileError(ValueError):
    """A file holds no secret; the message names the file and shows nothing of its content.

    Attributes:
        setting: the setting of the file, where it is another one than that of the secret itself.
    """

    def __init__(self, detail: str, *, setting: str = "") -> None:
        super().__init__(detail)
        self.setting = setting


def read_secret_file(path: Path, *, max_bytes: int = MAX_BYTES, is_private: bool = False) -> str:
    """The text of a file, without white space around it.

    Args:
        path: the file. A pipe is rejected: to read one would wait for its writer.
        max_bytes: the largest size.
        is_private: whether it is rejected if every user of the machine may read or write it.

    Raises:
        SecretFileError: it is no regular file, cannot be read, is open to all users, is empty, too
            large, or is not UTF-8.
    """
    try:
        _check(path, path.stat(), max_bytes, is_private=is_private)  # before a device is opened
        # By now the path may lead to another file. To open a pipe would wait for its writer.
        with open(path, "rb", opener=_without_waiting) as file:
            _check(path, os.fstat(file.fileno()), max_bytes, is_private=is_private)
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:  # it grows, or is one that the kernel makes up
            raise SecretFileError(f"{path}: is larger than {max_bytes} bytes")
        text = content.decode("utf-8").strip()
    except OSError as error:
        raise SecretFileError(file_fault(path, error)) from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{path}: not text") from None
    if not text:
        raise SecretFileError(f"{path} is empty")
    return text


class HeldSecret:
    """A secret that a program presents elsewhere, read at each use.

    While its file is there and cannot be used, as while it is written in its place, the last secret
    is presented, and that is logged once: its verifier decides on it. What verifies secrets reads
    its files by ``read_secret_file``: there an empty file is a secret that was withdrawn.

    Args:
        path: the file.
        max_bytes: as of ``read_secret_file``.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._last = ""
        self._is_reported = False

    def read(self) -> str:
        """The secret, or the last one that there was.

        Raises:
            SecretFileError: the file is missing, or has held no secret yet.
        """
        try:
            self._last = read_secret_file(self._path, max_bytes=self._max_bytes)
        except SecretFileError as error:
            if not self._last or is_missing(self._path):
                raise
            if not self._is_reported:
                log.warning("%s; the last secret stays in use", error)
            self._is_reported = True
        else:
            self._is_reported = False
        return self._last


@functools.lru_cache(maxsize=1_024)
def held_secret(path: Path, max_bytes: int = MAX_BYTES) -> HeldSecret:
    """The one ``HeldSecret`` of a file."""
    return HeldSecret(path, max_bytes=max_bytes)


def _check(path: Path, status: os.stat_result, max_bytes: int, *, is_private: bool) -> None:
    """
    Raises:
        SecretFileError: see ``read_secret_file``.
    """
    mode = stat.S_IMODE(status.st_mode)
    if is_private and mode & stat.S_IRWXO:
        raise SecretFileError(f"{path} is open to all users (mode {mode:o}): chmod 600 {path}")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise SecretFileError(f"{path}: is no regular file")
    if status.st_size > max_bytes:
        raise SecretFileError(f"{path}: is larger than {max_bytes} bytes")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
