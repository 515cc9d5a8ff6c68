"""Warns that the event loop was blocked, where a check of a caller got no answer for that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from authsvc.common.rarely import Rarely

log = logging.getLogger(__name__)

BLOCKED_SECONDS = 0.1
"""From which lag on the event loop counts as blocked."""

WARNING_INTERVAL_SECONDS = 60.0
"""From one warning to the next."""


class LoopLag:
    """Logs, once a minute, that the event loop is blocked. All else that an operator sees then are
    answers that authsvc is unavailable, which it is not.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS, clock)

    def report(self, seconds: float) -> None:
        """Log the lag of a check without an answer, if it is what a blocked event loop has.

        Args:
            seconds: by how much the timers of the check ran late.
        """
        if seconds < BLOCKED_SECONDS or not self._warnings.may_pass(LoopLag):
            return
        log.warning(
            "the event loop was blocked for %.1f s or more, so the gate got no answer of authsvc "
            "in time, and ends responses: run what blocks in a thread (asyncio.to_thread), or give "
            "the process more CPU; with PYTHONASYNCIODEBUG=1 asyncio logs what blocks",
            seconds,
        )
