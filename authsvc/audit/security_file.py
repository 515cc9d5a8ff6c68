"""The file of security events: each is written before the request goes on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from authsvc.audit import ocsf, security_lines
from authsvc.audit.formats import AuditFormat
from authsvc.audit.private_file import PrivateFile
from authsvc.audit.security import SecurityEvent, also_given_to
from authsvc.audit.write_failures import WriteFailures

LineOf = Callable[[SecurityEvent, float], str]
"""The line of an event that happened at a time, in seconds since the epoch; without its end."""


class SecurityFile:
    """An ``EventSink`` that appends events to a file. Thread-safe.

    It waits for no call event: those have a descriptor and a thread of their own; and for no reader
    of a pipe, which could stop all requests. What it cannot write, it reports by ``WriteFailures``;
    no request fails for that.

    Attributes:
        counts: number of events by result: ``written``, ``failed``.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(self, path: Path, line_of: LineOf = security_lines.line) -> None:
        self._file = PrivateFile(path, waits=False)
        self._line_of = line_of
        self._failures = WriteFailures(path)
        self._lock = threading.RLock()
        self.counts: Counter[str] = Counter({"written": 0, "failed": 0})

    def take(self, event: SecurityEvent, when: float) -> bool:
        """See ``EventSink``."""
        with self._lock:
            try:
                self._file.append(f"{self._line_of(event, when)}\n".encode())
            except Exception as error:  # noqa: BLE001 - reported; a request does not fail for it
                self.counts["failed"] += 1
                self._failures.failed(1, error)
                return False
            self.counts["written"] += 1
            self._failures.written()
            return True

    def close(self) -> None:
        """Report the failures that are not reported yet, and close the file."""
        with self._lock:
            self._failures.close()
            self._file.close()


@contextmanager
def appending_to_file(path: Path, audit_format: AuditFormat = "json") -> Iterator[SecurityFile]:
    """Append security events to a file, too, until the end of the block. Only its owner can read
    the file. Events of sessions are in the file alone.

    Args:
        path: the file.
        audit_format: of its lines.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """
    file = SecurityFile(path, _LINES[audit_format])
    try:
        with also_given_to(file):
            yield file
    finally:
        file.close()


_LINES: dict[AuditFormat, LineOf] = {"json": security_lines.line, "ocsf": ocsf.security_line}
