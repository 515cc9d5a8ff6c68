"""Counts of security events."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from authsvc.audit import security
from authsvc.audit.security import SecurityEvent
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


class SecurityEvents:
    """An ``EventSink`` that counts events. Thread-safe.

    Args:
        callers: the names of those whose events alerts look for: these are counted from 0 on.

    Attributes:
        counts: number of events by type, reason and caller.
    """

    def __init__(self, callers: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[tuple[str, str, str]] = Counter(
            {(*event, caller): 0 for caller in callers for event in _COUNTED_FROM_ZERO}
        )

    def take(self, event: SecurityEvent, when: float) -> bool:
        """See ``EventSink``."""
        with self._lock:
            self.counts[event.event_type.value, event.reason, event.caller] += 1
        return False
