"""Call events that wait to be written: a bounded queue, and the thread that writes it."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Protocol

from authsvc.audit.call_event import CallEvent
from authsvc.common.unexpected import log_unexpected

log = logging.getLogger("authsvc.audit")

MAX_EVENTS = 8_192
"""Most events that wait."""

MAX_CHARACTERS = 4_000_000
"""Most characters of the events that wait: at most 16 MB, and 4 MB as a rule."""

BATCH_EVENTS = 16
"""Events of one write: the interpreter is released after each, so that requests go on."""

PAUSE_SECONDS = 0.05
"""Between two passes of the thread: many events are written at once."""

REPORT_SECONDS = 1.0
"""Dropped events are reported at most so often."""

STUCK_SECONDS = 10.0
"""A write that takes longer reports nothing by itself: who drops an event meanwhile does."""

STUCK_REPORT_SECONDS = 60.0
"""At most so often."""

CLOSE_SECONDS = 5.0
"""How long ``close`` waits for the disk."""

Timed = tuple[float, CallEvent]
"""When a call ended, in seconds since the epoch, and its event."""


class CallSink(Protocol):
    """Where call events are written. One thread at a time uses it; it outlives what they raise."""

    def write(self, events: Sequence[Timed]) -> bool:
        """Write events; whether it is done. Those that are not written are reported by the sink."""

    def report_dropped(self, count: int) -> bool:
        """Write that events were dropped; whether it is done."""

    def close(self) -> None:
        """Close it, after all else."""


class PendingCalls:
    """The queue of one ``CallAudit``, and its thread, which begins with the first event.

    Args:
        sink: where events are written.
        counts: number of events by result; it is changed here.
        max_events: most events that wait.
        close_seconds: how long ``close`` waits for the sink.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        sink: CallSink,
        counts: Counter[str],
        *,
        max_events: int = MAX_EVENTS,
        close_seconds: float = CLOSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._counts = counts
        self._max_events = max_events
        self._close_seconds = close_seconds
        self._clock = clock
        self._next_report = clock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        # The garbage collector may close an audit while its own thread has the lock.
        self._lock = threading.RLock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._events: deque[Timed] = deque()
        self._characters = 0
        self._in_hand = 0
        self._busy_since = math.inf
        self._unreported = 0
        self._failed = 0
        self._next_stuck_report = -math.inf

    def add(self, when: float, event: CallEvent) -> None:
        """Have an event written, or drop it where too many wait. Never waits for the sink.

        Args:
            when: the call ended, in seconds since the epoch.
            event: with text of bounded length.
        """
        self._put((when, event))

    def drop(self) -> None:
        """Count an event that is not to be written as dropped, and report it."""
        self._put(None)

    def _put(self, timed: Timed | None) -> None:
        if self._process != os.getpid():
            # A fork has no thread, and its parent writes what the parent had pending.
            self._begin()
        unwritten = 0
        with self._lock:
            if timed is None or not self._has_room_for(timed[1]):
                self._counts["dropped"] += 1
                self._unreported += 1
                unwritten = self._unreported_by_stuck_sink()
            else:
                self._events.append(timed)
                self._characters += timed[1].characters
            if self._thread is None and not self._stop.is_set():
                self._start()
        if not self._wake.is_set():
            self._wake.set()
        if unwritten:
            with suppress(Exception):  # of a handler or filter of the log: no request fails for it
                log.error("audit: calls are dropped, the file is stuck", extra={"lost": unwritten})

    def _has_room_for(self, event: CallEvent) -> bool:
        return (
            not self._stop.is_set()
            and len(self._events) < self._max_events
            and self._characters + event.characters <= MAX_CHARACTERS
        )

    def _unreported_by_stuck_sink(self) -> int:
        """How many dropped events a sink that does not come back has not reported, where that is to
        be logged now; else 0."""
        now = self._clock()
        if now - self._busy_since < STUCK_SECONDS or now < self._next_stuck_report:
            return 0
        self._next_stuck_report = now + STUCK_REPORT_SECONDS
        return self._unreported

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="audit of calls", daemon=True)
        # Where no thread can be started, events wait, and then are dropped.
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def close(self) -> None:
        """Write what waits, for ``CLOSE_SECONDS`` at most; what is left then is reported as lost,
        and so are dropped events that the sink has no report of.

        Later events are dropped.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            self._stop.set()
            thread = self._thread
        self._wake.set()
        # The garbage collector may call this in any thread.
        if thread is threading.current_thread():
            return  # it goes on with what waits
        if thread is not None:
            thread.join(self._close_seconds)
        with self._lock:
            lost = len(self._events) + self._in_hand + self._unreported
            self._unreported = 0
        if lost:
            log.error("audit: calls were not written before the stop", extra={"lost": lost})

    def _run(self) -> None:
        while True:
            self._wake.wait(REPORT_SECONDS if self._unreported or self._failed else None)
            self._wake.clear()
            stopping = self._stop.is_set()
            while batch := self._take():
                self._write(batch)
            is_due = stopping or self._clock() >= self._next_report
            if is_due and (self._unreported or self._failed):
                self._report()
            if stopping:
                with suppress(Exception):
                    self._sink.close()
                return
            self._stop.wait(PAUSE_SECONDS)

    def _take(self) -> list[Timed]:
        with self._lock:
            batch = list(islice(self._events, BATCH_EVENTS))
            for _, event in batch:
                self._events.popleft()
                self._characters -= event.characters
            self._in_hand = len(batch)
        return batch

    def _write(self, batch: list[Timed]) -> None:
        done = self._done(partial(self._sink.write, batch))
        self._counts["written" if done else "failed"] += len(batch)
        if not done:
            self._failed += len(batch)
        self._in_hand = 0

    def _report(self) -> None:
        count, failed = self._unreported, self._failed
        if self._done(partial(self._sink.report_dropped, count + failed)):
            self._failed = 0
            with self._lock:
                # None are left where ``close`` has reported them.
                self._unreported = max(0, self._unreported - count)
        self._next_report = self._clock() + REPORT_SECONDS

    def _done(self, write: Callable[[], bool]) -> bool:
        """Whether the sink has written something. Not where it raises: without the thread, all
        later events would be lost, and nobody would know."""
        self._busy_since = self._clock()
        try:
            return write()
        except Exception as error:  # noqa: BLE001 - of a handler or filter of the log, too
            with suppress(Exception):
                log_unexpected(log, "audit: the sink of calls failed", error)
            return False
        finally:
            self._busy_since = math.inf
