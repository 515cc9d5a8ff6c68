"""Counts of security events, taken from the log that has them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from authsvc.audit import security
from authsvc.domain.errors import Reason

_EVENTS = security.SecurityEventType
# Those of limits by subject and client are no alert.
_COUNTED_FROM_ZERO = (
    (_EVENTS.SUBJECT_MISMATCH.value, Reason.SESSION_SUBJECT_MISMATCH.name),
    (_EVENTS.CALLER_DENIED.value, Reason.CALLER_NOT_ALLOWED.name),
    (_EVENTS.LIMIT_REACHED.value, Reason.OVERLOADED.name),
    (_EVENTS.LIMIT_REACHED.value, Reason.SESSION_LIMIT.name),
)
"""Events and their reasons. Prometheus's ``increase`` does not show how a series begins: of one
that appears with 40 events, it shows none."""


class SecurityEvents(logging.Handler):
    """A handler of the security log that counts its events.

    Args:
        callers: the names of those whose events alerts look for: these are counted from 0 on.

    Attributes:
        counts: number of events by type, reason and caller.
    """

    def __init__(self, callers: Iterable[str] = ()) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str, str]] = Counter(
            {(*event, caller): 0 for caller in callers for event in _COUNTED_FROM_ZERO}
        )

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        fields = record.__dict__
        event = str(fields.get("event_type")), str(fields.get("reason")), str(fields.get("caller"))
        self.counts[event] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the events of the block."""
        security.log.addHandler(self)
        try:
            yield
        finally:
            security.log.removeHandler(self)
