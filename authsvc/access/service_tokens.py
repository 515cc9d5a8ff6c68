"""Service tokens: the secrets by which callers prove who they are, in files."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from authsvc.common import guessable
from authsvc.common.formats import is_token_digest
from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS, NewEntries, WatchedFile

log = logging.getLogger(__name__)

MIN_SERVICE_TOKEN_LENGTH = 32
"""Characters; a shorter token could be guessed."""

_DIGEST = re.compile("sha256:([0-9A-Fa-f]{64})")


class ServiceTokenFile:
    """The digest of a service token in a file, which may change or be removed at any time.

    The file holds the token, or ``sha256:`` and the token's SHA-256 as 64 hexadecimal digits.

    A token is withdrawn once its file is removed or has other content. Content that has just been
    written may be incomplete: the last token stays valid for ``WATCH_INTERVAL_SECONDS``. It also
    stays valid while the file cannot be read.

    Args:
        path: the file; white space around its content does not count.
        clock: seconds, of any origin.

    Raises:
        OSError: it cannot be read.
        ValueError: its content is neither a service token nor the digest of one.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._file = WatchedFile(path)
        self._failures: NewEntries[str] = NewEntries()
        content, _ = _read(path)
        self._digest: bytes | None = _service_token_digest(content)

    def digest(self) -> bytes | None:
        """SHA-256 of the token, as of ``WATCH_INTERVAL_SECONDS`` ago at most; None when it is
        gone."""
        if self._file.changed(self._clock()):
            self._reload()
        return self._digest

    def _reload(self) -> None:
        try:
            content, write_time = _read(self._path)
        except FileNotFoundError:
            self._replace(None)
            return
        except OSError as error:
            self._report(f"cannot be reloaded: {error}")
            return
        try:
            self._replace(_service_token_digest(content))
        except ValueError as error:
            if not _may_be_incomplete(write_time):
                self._report(f"is withdrawn: its file {error}")
                self._digest = None

    def _replace(self, digest: bytes | None) -> None:
        self._file.mark_read()
        self._report()
        if digest != self._digest:
            log.info("service token %s: %s", self._path, "changed" if digest else "gone")
        self._digest = digest

    def _report(self, *failures: str) -> None:
        for failure in self._failures.of(failures):
            log.error("service token %s %s", self._path, failure)


def _read(path: Path) -> tuple[bytes, float]:
    """The content of a file, and when it was written last, in seconds since the epoch.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read()
        return content, os.fstat(file.fileno()).st_mtime


def _may_be_incomplete(write_time: float) -> bool:
    """Whether a file was written so recently that the writer may not be done."""
    return 0.0 <= time.time() - write_time < WATCH_INTERVAL_SECONDS


def _service_token_digest(content: bytes) -> bytes:
    """
    Raises:
        ValueError: the content of the file is neither a service token nor the digest of one.
    """
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("is not ASCII") from None
    if not text:
        raise ValueError("is empty")
    if is_token_digest(text):
        return _stated_digest(text)
    if len(text) < MIN_SERVICE_TOKEN_LENGTH:
        raise ValueError(f"holds fewer than {MIN_SERVICE_TOKEN_LENGTH} characters")
    # Such as what sha256sum prints, or two tokens: no header can carry it.
    if len(text.split()) > 1:
        raise ValueError("holds more than one word")
    if fault := guessable.fault(text.encode()):
        raise ValueError(f"holds a token that can be guessed: {fault}; {guessable.REMEDY}")
    return hashlib.sha256(text.encode()).digest()


def _stated_digest(text: str) -> bytes:
    """The digest that a file states, in place of a token.

    Raises:
        ValueError: it is malformed, or that of a common word. Whether another token can be guessed
            does not show in its digest.
    """
    stated = _DIGEST.fullmatch(text)
    if stated is None:
        raise ValueError("begins with sha256: and does not go on with 64 hexadecimal digits alone")
    if fault := guessable.fault(stated[1].encode()):
        raise ValueError(f"holds a digest that is no token's: {fault}; {guessable.REMEDY}")
    return bytes.fromhex(stated[1])
