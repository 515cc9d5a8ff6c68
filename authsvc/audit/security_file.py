"""The file of security events: each is written before the request goes on."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from authsvc.audit.private_file import PrivateFile
from authsvc.audit.security import OF_FILE
from authsvc.audit.write_failures import WriteFailures


class SecurityFile(logging.Handler):
    """A handler that appends the lines of a logger to a file.

    It waits for no call event: those have a descriptor and a thread of their own; and for no reader
    of a pipe, which could stop all requests. What it cannot write, it reports by ``WriteFailures``;
    no request fails for that.

    Attributes:
        counts: number of events by result: ``written``, ``failed``.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = PrivateFile(path, waits=False)
        self._failures = WriteFailures(path)
        self._unwritten: logging.LogRecord | None = None
        self.counts: Counter[str] = Counter({"written": 0, "failed": 0})

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        try:
            self._file.append(f"{self.format(record)}\n".encode())
        except Exception as error:  # noqa: BLE001 - reported; a request does not fail for it
            self._unwritten = record
            self.counts["failed"] += 1
            self._failures.failed(1, error)
        else:
            self.counts["written"] += 1
            self._failures.written()

    def leaves_to_log(self, record: logging.LogRecord) -> bool:
        """Whether the log has a record as well: a filter of its handlers, which come later.

        Events of sessions are in the file alone, but for those that it could not be given.
        """
        return record is self._unwritten or record.__dict__.get("event_type") not in OF_FILE

    def close(self) -> None:
        """See ``logging.Handler``."""
        super().close()
        self._failures.close()
        self._file.close()
