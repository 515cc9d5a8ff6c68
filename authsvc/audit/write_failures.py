"""Reports of events that could not be written: with a count, and rarely."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from authsvc.common.rarely import Rarely

log = logging.getLogger("authsvc.audit")

REPORT_SECONDS = 60.0
"""Failures of one file are reported at most so often."""


class WriteFailures:
    """The failures of one file. Not thread-safe.

    Args:
        path: the file, as it is reported.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, path: object, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = str(path)
        self._reports = Rarely(REPORT_SECONDS, clock)
        self._lost = 0
        self._error = ""

    def failed(self, events: int, error: Exception) -> None:
        """Note that events could not be written.

        Args:
            events: how many; 0 for a report of such events.
            error: why not. Of one that is no ``OSError``, its type alone is reported.
        """
        self._lost += events
        self._error = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        self.written()

    def written(self) -> None:
        """Report what is lost, where that is due. Called when events were written, too."""
        if self._lost and self._reports.may_pass("lost"):
            self._report()

    def close(self) -> None:
        """Report what is not reported yet."""
        if self._lost:
            self._report()

    def _report(self) -> None:
        fields = {"file": self._path, "lost": self._lost, "error": self._error}
        # In the text as well: the log of a server that is not ours shows no fields.
        values = self._lost, self._path, self._error
        # First: where the log is what failed, this may fail within itself.
        self._lost = 0
        log.error("audit: events were not written: %s lost, %s: %s", *values, extra=fields)
