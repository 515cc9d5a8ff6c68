"""Audit of calls, which are many: ``CallAudit.record`` never waits for a disk."""

from __future__ import annotations

import random
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from authsvc.audit.call_event import CallEvent, CallOutcome, bounded, declared_arguments
from authsvc.audit.call_sinks import FileSink, LogSink
from authsvc.audit.formats import AuditFormat
from authsvc.audit.pending import CallSink, PendingCalls
from authsvc.common.token_bucket import TokenBucket

__all__ = [
    "AuditFormat",
    "CallAudit",
    "CallEvent",
    "CallOutcome",
    "CallsAudited",
    "declared_arguments",
]

CallsAudited = Literal["off", "sampled", "full"]
"""Which calls are audited: none, a ratio of them, or all."""

DEFAULT_SAMPLE_RATIO = 0.01

ANONYMOUS_PER_SECOND = 200.0
ANONYMOUS_AT_ONCE = 1_000.0
"""Calls without a subject that are audited; others are dropped, counted and reported. Anybody can
make them: else anybody could fill the disk, or have the queue drop the calls of others."""


class CallAudit:
    """Writes call events, in a thread of its own.

    A full queue drops events, counts them, and reports the count; nothing waits. So do calls
    without a subject beyond ``ANONYMOUS_PER_SECOND``. ``close`` writes
    what is pending, and so does the end of the process.

    Args:
        calls: which calls are audited: ``off``, ``sampled`` or ``full``.
        sample_ratio: of the calls, where ``calls`` is ``sampled``; more than 0, at most 1.
        file: events are appended to it; without one they are logged, by ``authsvc.calls``.
        format: of the file: ``json`` or ``ocsf``.
        clock: seconds since the epoch.
        traceparent: the context of the current trace, as W3C Trace Context spells it; empty without
            one. A gate audits a call under it, and otherwise under the client's.

    Attributes:
        counts: number of events by result: ``written``, ``dropped``, ``failed``.
        traceparent: see above.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
        ValueError: an argument has no such value, or ``format`` has no file.
    """

    def __init__(
        self,
        calls: CallsAudited = "full",
        *,
        sample_ratio: float = DEFAULT_SAMPLE_RATIO,
        file: Path | str | None = None,
        format: AuditFormat = "json",  # noqa: A002 - as the setting
        clock: Callable[[], float] = time.time,
        traceparent: Callable[[], str] = str,
    ) -> None:
        _check(calls, sample_ratio, format, has_file=file is not None)
        self._ratio = {"off": 0.0, "sampled": sample_ratio, "full": 1.0}[calls]
        self._clock = clock
        self._anonymous = TokenBucket(ANONYMOUS_PER_SECOND, ANONYMOUS_AT_ONCE, clock())
        self.traceparent = traceparent
        self.counts: Counter[str] = Counter({"written": 0, "dropped": 0, "failed": 0})
        self._pending: PendingCalls | None = None
        if calls != "off":
            sink: CallSink = LogSink(self._ratio)
            if file is not None:
                sink = FileSink(Path(file), format, self._ratio)
            self._pending = PendingCalls(sink, self.counts)
            weakref.finalize(self, self._pending.close)

    @property
    def is_on(self) -> bool:
        """Whether any call is audited."""
        return self._ratio > 0.0

    def wants(self) -> bool:
        """Whether the next request is audited; to be called once for each."""
        ratio = self._ratio
        return ratio == 1.0 or (ratio > 0.0 and random.random() < ratio)  # noqa: S311 - a sample

    def record(self, event: CallEvent) -> None:
        """Audit a call, which ends now. Never waits, and fails for nothing."""
        if self._pending is None:
            return
        now = self._clock()
        if event.subject or self._anonymous.take(now) == 0.0:
            self._pending.add(now, bounded(event))
        else:
            self._pending.drop()

    def close(self) -> None:
        """Write what is pending, for some seconds at most. Later events are dropped."""
        if self._pending is not None:
            self._pending.close()


def _check(calls: str, sample_ratio: float, audit_format: str, *, has_file: bool) -> None:
    if calls not in get_args(CallsAudited):
        raise ValueError(f"calls is one of {', '.join(get_args(CallsAudited))}, not {calls!r}")
    if not 0 < sample_ratio <= 1:
        raise ValueError(f"sample_ratio is more than 0, and at most 1, not {sample_ratio!r}")
    if audit_format not in get_args(AuditFormat):
        raise ValueError(f"format is one of {', '.join(get_args(AuditFormat))}")
    if audit_format != "json" and not has_file:
        raise ValueError("format is that of file: set file, too")
