"""Call events wait in a bounded queue: what does not fit is dropped, counted and reported."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence

import pytest

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.audit.pending import (
    BATCH_EVENTS,
    MAX_CHARACTERS,
    STUCK_REPORT_SECONDS,
    STUCK_SECONDS,
    PendingCalls,
    Timed,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock

EVENT = CallEvent("tools/list", CallOutcome.SUCCEEDED)


class Sink:
    """A sink that is slow until it is opened, and fails while it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.busy = threading.Event()
        self.reported = threading.Event()
        self.fails = False
        self.batches: list[int] = []
        self.dropped: list[int] = []
        self.is_closed = False

    def write(self, events: Sequence[Timed]) -> bool:
        self.busy.set()
        assert self.open.wait(TIMEOUT_SECONDS)
        self.batches.append(len(events))
        return not self.fails

    def report_dropped(self, count: int) -> bool:
        self.dropped.append(count)
        self.reported.set()
        return not self.fails

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def counts() -> Counter[str]:
    return Counter({"written": 0, "dropped": 0, "failed": 0})


def fill(calls: PendingCalls, sink: Sink, events: int) -> None:
    """Add events, all but the first while the sink is busy with that one."""
    calls.add(0.0, EVENT)
    assert sink.busy.wait(TIMEOUT_SECONDS)
    for _ in range(events - 1):
        calls.add(0.0, EVENT)


def test_nothing_waits_for_a_slow_sink_and_no_event_is_lost_silently(
    sink: Sink, counts: Counter[str]
) -> None:
    calls = PendingCalls(sink, counts, max_events=100)
    fill(calls, sink, 1000)
    assert counts["dropped"] == 899
    sink.open.set()
    calls.close()
    assert counts == {"written": 101, "dropped": 899, "failed": 0}
    assert sink.dropped == [899]
    assert sink.is_closed


def test_events_are_written_by_few(sink: Sink, counts: Counter[str]) -> None:
    sink.open.set()
    calls = PendingCalls(sink, counts)
    for _ in range(500):
        calls.add(0.0, EVENT)
    calls.close()
    assert sum(sink.batches) == 500
    assert max(sink.batches) <= BATCH_EVENTS


def test_large_events_take_more_of_the_queue(sink: Sink, counts: Counter[str]) -> None:
    calls = PendingCalls(sink, counts)
    large = CallEvent("m" * (MAX_CHARACTERS // 2 - 1), CallOutcome.SUCCEEDED)
    fill(calls, sink, 1)
    for _ in range(3):
        calls.add(0.0, large)
    assert counts["dropped"] == 1
    sink.open.set()
    calls.close()
    assert counts["written"] == 3


def test_what_is_written_makes_room(sink: Sink, counts: Counter[str]) -> None:
    sink.open.set()
    calls = PendingCalls(sink, counts)
    large = CallEvent("m" * (MAX_CHARACTERS // 2), CallOutcome.SUCCEEDED)
    for _ in range(5):
        sink.busy.clear()
        calls.add(0.0, large)
        assert sink.busy.wait(TIMEOUT_SECONDS)
    calls.close()
    assert counts["dropped"] == 0


def test_drops_are_reported_at_most_once_a_second(sink: Sink, counts: Counter[str]) -> None:
    asked = threading.Event()

    def clock() -> float:
        asked.set()
        return 0.0

    calls = PendingCalls(sink, counts, max_events=1, clock=clock)
    fill(calls, sink, 3)
    sink.open.set()
    assert sink.reported.wait(TIMEOUT_SECONDS)
    sink.open.clear()
    sink.busy.clear()
    fill(calls, sink, 10)
    asked.clear()
    sink.open.set()
    assert asked.wait(TIMEOUT_SECONDS)
    assert len(sink.dropped) == 1
    calls.close()
    # The second report is the one of the stop.
    assert len(sink.dropped) == 2
    assert sum(sink.dropped) == counts["dropped"]


def test_a_report_that_fails_is_repeated(sink: Sink, counts: Counter[str]) -> None:
    sink.fails = True
    calls = PendingCalls(sink, counts, max_events=1)
    fill(calls, sink, 3)
    sink.open.set()
    assert sink.reported.wait(TIMEOUT_SECONDS)
    first = sink.dropped[0]
    sink.fails = False
    calls.close()
    # Those that were not written are reported as well, once the sink can be written again.
    assert sink.dropped == [first, first] == [3, 3]
    assert counts["failed"] == 2


def test_a_sink_that_does_not_end_is_left_and_reported(
    sink: Sink, counts: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    calls = PendingCalls(sink, counts, close_seconds=0.0)
    fill(calls, sink, 6)
    calls.close()
    (record,) = [record for record in caplog.records if record.name == "authsvc.audit"]
    assert record.__dict__["lost"] == 6
    sink.open.set()


def test_dropped_events_that_a_sink_cannot_report_are_reported_at_the_stop(
    sink: Sink, counts: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    sink.fails = True
    calls = PendingCalls(sink, counts, max_events=1)
    fill(calls, sink, 7)
    sink.open.set()
    calls.close()
    assert counts["dropped"] == 5
    assert lost(caplog) == [5]
    calls.close()
    assert lost(caplog) == [5]


def test_a_sink_that_does_not_come_back_is_reported_by_who_drops(
    sink: Sink, counts: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    calls = PendingCalls(sink, counts, max_events=1, clock=clock)
    fill(calls, sink, 3)
    clock.advance(STUCK_SECONDS - 1.0)
    calls.add(0.0, EVENT)
    assert lost(caplog) == []
    for seconds in (1.0, 1.0, STUCK_REPORT_SECONDS - 1.0):
        clock.advance(seconds)
        calls.add(0.0, EVENT)
    assert lost(caplog) == [3, 5]
    sink.open.set()
    calls.close()
    assert sink.dropped == [5]


@pytest.mark.parametrize("failing", ["write", "report_dropped"])
def test_the_thread_outlives_a_sink_that_raises(
    sink: Sink,
    counts: Counter[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    """A filter or a handler of the log may raise, in the report of a failure as well."""
    failed, quoted = threading.Event(), "bearer secret"

    def fail(given: object) -> bool:
        sink.busy.set()
        assert sink.open.wait(TIMEOUT_SECONDS)
        failed.set()
        raise KeyError(quoted)

    calls = PendingCalls(sink, counts, max_events=1)
    with monkeypatch.context() as patch:
        patch.setattr(sink, failing, fail)
        fill(calls, sink, 3)
        sink.open.set()
        assert failed.wait(TIMEOUT_SECONDS)
    calls.close()
    # The second write may come before or after the sink is whole again.
    assert sink.dropped == [1 + counts["failed"]]
    assert counts["written"] + counts["failed"] == 2
    assert counts["failed"] > 0 or failing == "report_dropped"
    assert counts["failed"] == 0 or failing == "write"
    assert "KeyError" in caplog.text
    assert quoted not in caplog.text


def lost(caplog: pytest.LogCaptureFixture) -> list[int]:
    """How many events the log says to be lost, line by line."""
    return [record.__dict__["lost"] for record in caplog.records if record.name == "authsvc.audit"]


def test_without_a_thread_events_wait_and_then_are_dropped(
    sink: Sink, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = PendingCalls(sink, counts, max_events=2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(3):
            calls.add(0.0, EVENT)
    assert counts["dropped"] == 1
    sink.open.set()
    calls.add(0.0, EVENT)
    calls.close()
    assert counts["written"] == 2
    assert sink.dropped == [2]


def test_the_thread_itself_may_close(counts: Counter[str]) -> None:
    """The garbage collector closes an audit in whatever thread it runs in."""

    class ClosingSink(Sink):
        def write(self, events: Sequence[Timed]) -> bool:
            calls.close()
            return super().write(events)

    sink = ClosingSink()
    sink.open.set()
    calls = PendingCalls(sink, counts)
    calls.add(0.0, EVENT)
    assert sink.busy.wait(TIMEOUT_SECONDS)
    calls.close()
    assert sink.is_closed
    assert counts["written"] == 1


def test_another_process_begins_anew(
    sink: Sink, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork has the queue of its parent, and no thread: it writes neither that nor the end."""
    calls = PendingCalls(sink, counts)
    fill(calls, sink, 3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        calls.close()
    calls.add(0.0, EVENT)
    sink.open.set()
    calls.close()
    assert counts == {"written": 4, "dropped": 0, "failed": 0}
    child = PendingCalls(sink, counts)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        child.add(0.0, EVENT)
        child.close()
    assert counts["written"] == 5
