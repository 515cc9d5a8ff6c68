"""Counts of security events, taken from the log that has them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from authsvc.audit import security


class SecurityEvents(logging.Handler):
    """A handler of the security log that counts its events.

    Attributes:
        counts: number of events by type, reason and caller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        fields = record.__dict__
        event_type, reason, caller = (fields.get(x) for x in ("event_type", "reason", "caller"))
        self.counts[str(event_type), str(reason), str(caller)] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the events of the block."""
        security.log.addHandler(self)
        try:
            yield
        finally:
            security.log.removeHandler(self)
