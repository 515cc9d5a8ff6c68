"""The file of security events: each is written before the request goes on."""

from __future__ import annotations

import logging
from pathlib import Path

from authsvc.audit.private_file import PrivateFile
from authsvc.audit.write_failures import WriteFailures


class SecurityFile(logging.Handler):
    """A handler that appends the lines of a logger to a file.

    It waits for no call event: those have a descriptor and a thread of their own; and for no reader
    of a pipe, which could stop all requests. What it cannot write, it reports by ``WriteFailures``;
    no request fails for that.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = PrivateFile(path, waits=False)
        self._failures = WriteFailures(path)

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        try:
            self._file.append(f"{self.format(record)}\n".encode())
        except Exception as error:  # noqa: BLE001 - reported; a request does not fail for it
            self._failures.failed(1, error)
        else:
            self._failures.written()

    def close(self) -> None:
        """See ``logging.Handler``."""
        super().close()
        self._failures.close()
        self._file.close()
