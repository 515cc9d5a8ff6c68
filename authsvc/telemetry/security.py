"""Security events, counted as they are written down."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from authsvc.access import audit


class SecurityEvents(logging.Handler):
    """Hears the log of security events.

    Attributes:
        counts: how many there were, by type, reason and caller.
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
    def heard(self) -> Iterator[None]:
        """Count what is written down within the block."""
        audit.log.addHandler(self)
        try:
            yield
        finally:
            audit.log.removeHandler(self)
