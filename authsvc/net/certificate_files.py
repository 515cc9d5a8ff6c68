"""The certificates that a program uses: when they end, for its metrics and its log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from authsvc.net.certificate_data import read_certificates, same_names
from authsvc.net.validity import UNUSABLE, State, Validity
from authsvc.net.watched_file import WatchedFile

log = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
"""How often a program looks whether one of its certificates has expired or will soon."""

MAX_FILE_BYTES = 1024 * 1024


class CertificateFiles:
    """The files of a program's certificates, by setting, which may change.

    What uses the certificates reads the files by itself. A file of several, a chain or a bundle of
    authorities, ends with the first of them.

    ``validities`` is thread-safe: metrics are read in threads. The other methods are for the event
    loop.

    Args:
        files: by setting; None for one that is not set.
        clock: seconds since the epoch.
    """

    def __init__(
        self, files: Mapping[str, Path | None], clock: Callable[[], float] = time.time
    ) -> None:
        self._files = {it: _File(path) for it, path in files.items() if path is not None}
        self._clock = clock
        self._logged: dict[str, tuple[Validity, State]] = {}

    def validities(self) -> dict[str, Validity]:
        """How long each is valid, by setting; ``UNUSABLE`` for a file that cannot be used."""
        return {setting: file.validity() for setting, file in self._files.items()}

    def check(self) -> None:
        """Log the end of each certificate: once, and again when it changes, has to be renewed or
        expires."""
        now = self._clock()
        for setting, validity in self.validities().items():
            known = validity, validity.state(now)
            if self._logged.get(setting) != known:
                self._logged[setting] = known
                self._log(setting, validity, now)

    def report(self) -> None:
        """Log the end of each certificate, whatever has been logged: for a reload."""
        self._logged.clear()
        self.check()

    def _log(self, setting: str, validity: Validity, now: float) -> None:
        state = validity.state(now)
        level, remedy = _REMEDIES[state]
        path = self._files[setting].path
        log.log(level, "%s: %s %s%s", setting, path, validity.described(now), remedy)


_REMEDIES = {
    State.VALID: (logging.INFO, ""),
    State.ENDS_SOON: (logging.WARNING, ": renew it, and replace the file"),
    State.EXPIRED: (logging.ERROR, ": new connections fail until the file is replaced"),
    State.NOT_YET_VALID: (logging.ERROR, ""),
    State.UNUSABLE: (logging.ERROR, ": it holds no certificate that can be read"),
}
"""The level of a line, and its end."""


def validity_of(path: Path) -> Validity:
    """How long the certificates of a file are valid: until the first of them ends."""
    try:
        with path.open("rb") as file:
            found = read_certificates(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError):
        return UNUSABLE
    first = min(found, key=lambda it: it.ends)
    return Validity(first.begins, first.ends)


def mistaken_authorities(path: Path) -> list[str]:
    """As ``same_names``, of a file; nothing of one that cannot be read."""
    try:
        return same_names(path.read_bytes())
    except OSError:
        return []


def warnings_of(files: Mapping[str, Path | None]) -> list[str]:
    """What does not keep a program from starting, and keeps connections from being made: a line for
    each certificate that has expired, has to be renewed or is not valid yet, and for authorities
    that verifiers mistake for each other.

    Args:
        files: by setting; None for one that is not set.
    """
    lines, now = list[str](), time.time()
    for setting, path in files.items():
        if path is None:
            continue
        validity = validity_of(path)
        if validity.state(now) in _WARNED:
            lines.append(f"{setting}: {path} {validity.described(now)}")
        lines += [f"{setting}: {path}: {text}" for text in mistaken_authorities(path)]
    return lines


_WARNED = frozenset({State.EXPIRED, State.ENDS_SOON, State.NOT_YET_VALID})


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._watched = WatchedFile(path)
        self._validity = validity_of(path)
        # Without it, a thread that has read the file before a change could mark the change as read.
        self._lock = threading.Lock()

    def validity(self) -> Validity:
        with self._lock:
            if self._watched.changed(time.monotonic()):
                self._validity = validity_of(self.path)
                self._watched.mark_read()
            return self._validity
