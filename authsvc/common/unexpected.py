"""How a failure that nothing foresaw is logged: without what it may quote."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable

from authsvc.common.rarely import Rarely

_log = logging.getLogger(__name__)

REPEATED_SECONDS = 60.0
"""How often a failure that lasts is logged."""

FRAMES_SECONDS = 3600.0
"""How often its frames are: they are some 2 KB, and the same each time."""


def log_unexpected(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log an unexpected exception as an error: its type and its frames, without its message.

    The message may quote a token or what a client has sent.

    Args:
        log: the logger of the module that caught it.
        what: what has failed, such as ``a request failed unexpectedly``.
        error: the exception.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, frames)


class FailureLog:
    """Logs the failures of what is tried again and again: once a minute a type of exception, with
    the frames of an unexpected one at first and then once an hour.

    Args:
        what: what has failed, as of ``log_unexpected``.
        expected: exceptions whose messages are for the log; they are logged as warnings.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        what: str,
        expected: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._expected = expected
        self._lines = Rarely(REPEATED_SECONDS, clock)
        self._frames = Rarely(FRAMES_SECONDS, clock)

    def report(self, error: Exception) -> None:
        """Log a failure, unless one of its type has just been."""
        cause = type(error).__name__
        if not self._lines.may_pass(cause):
            return
        if isinstance(error, self._expected):
            _log.warning("%s: %s", self._what, error)
        elif self._frames.may_pass(cause):
            log_unexpected(_log, self._what, error)
        else:
            _log.error("%s: %s", self._what, cause)
