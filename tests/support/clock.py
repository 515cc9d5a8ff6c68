"""A clock that stands until it is told to move."""

from __future__ import annotations

START = 1_800_000_000.0


class Clock:
    """Seconds since the epoch, by hand."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds
