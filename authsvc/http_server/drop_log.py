"""Counts dropped connections, and logs them in one line a second."""

from __future__ import annotations

import logging
from collections import Counter

from authsvc.http_server.connection import ConnectionCounts

log = logging.getLogger(__name__)

LOG_SECONDS = 1.0
"""Least time between two lines about dropped connections."""


class DropLog:
    """Connections that were rejected or dropped.

    Args:
        counts: where they are counted, by reason.
    """

    def __init__(self, counts: ConnectionCounts) -> None:
        self._counts = counts
        self._unlogged: Counter[str] = Counter()
        self._last_address = ""
        self._logged_at = float("-inf")

    def add(self, reason: str, address: str = "") -> None:
        """Count one connection.

        Args:
            reason: the label of the metric.
            address: the client's; empty if it has none.
        """
        self._counts.dropped[reason] += 1
        self._unlogged[reason] += 1
        self._last_address = address

    def flush(self, now: float) -> None:
        """Log what was counted since the last line, unless that line is less than a second old."""
        if not self._unlogged or now - self._logged_at < LOG_SECONDS:
            return
        dropped = dict(self._unlogged)
        self._unlogged.clear()
        self._logged_at = now
        log.warning(
            "connections dropped: %s",
            ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())),
            extra={
                "dropped": dropped,
                "last_address": self._last_address,
                "open": self._counts.open,
                "buffered_bytes": self._counts.buffered_bytes,
            },
        )
