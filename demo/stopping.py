"""Ends a program by a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable


class Stop:
    """Whether a signal has asked the program to end.

    It is no ``threading.Event``: a handler runs in the main thread, and its ``set`` would wait for
    a lock that the interrupted ``wait`` may hold.

    Args:
        signals: that ask for it.
    """

    def __init__(self, signals: Iterable[int]) -> None:
        self.is_set = False
        for signal_number in signals:
            signal.signal(signal_number, self._set)

    def wait(self, seconds: float) -> bool:
        """Wait so long; returns whether the program is to end."""
        if not self.is_set:
            time.sleep(seconds)
        return self.is_set

    def _set(self, *_: object) -> None:
        self.is_set = True
