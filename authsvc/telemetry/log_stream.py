"""The handler that writes the log to standard error, which may be a file on a full disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

from authsvc.audit.write_failures import REPORT_SECONDS
from authsvc.common.rarely import Rarely

log = logging.getLogger(__name__)


class LogStream(logging.Handler):
    """Writes lines to a stream.

    ``logging.StreamHandler`` answers a line that it cannot write with a traceback of some 45 lines
    to standard error, for each of them: they fill what is left of the disk. Here such lines are
    counted, and the first line that is written again is followed by a report, once a minute at
    most.

    Args:
        stream: the stream.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._stream = stream
        self._lost = 0
        self._error = ""
        self._reports = Rarely(REPORT_SECONDS, clock)

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        try:
            self._stream.write(f"{self.format(record)}\n")
            self._stream.flush()
        except Exception as error:  # noqa: BLE001 - counted; nothing fails for the log
            self._lost += 1
            self._error = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        else:
            self._report()

    def _report(self) -> None:
        if not self._lost or not self._reports.may_pass("lost"):
            return
        lost, self._lost = self._lost, 0
        fields = {"lost": lost, "error": self._error}
        log.error("log: lines were not written: %d lost, %s", lost, self._error, extra=fields)
        if self._lost:
            # The report itself was not written.
            self._lost += lost
