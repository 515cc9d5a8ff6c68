"""A line of the file is the log's own, whatever is in its fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from copy import copy
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.audit import security, security_lines
from authsvc.audit.security import OF_FILE, SecurityEvent, SecurityEventType
from authsvc.telemetry.json_lines import JsonFormatter

TEXTS = st.text(max_size=40)
EVENTS = st.builds(
    SecurityEvent,
    st.sampled_from(SecurityEventType),
    **{field.name: TEXTS for field in fields(SecurityEvent)[1:]},
)

HOSTILE = '"\\\x7f\ud800é\n'


class Log(logging.Handler):
    """The records of events in the log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        # As it is before pytest's own handler has formatted it.
        self.records.append(copy(record))


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    handler = Log()
    security.log.addHandler(handler)
    yield handler
    security.log.removeHandler(handler)


@given(event=EVENTS, when=st.floats(0, 4e9))
@example(event=SecurityEvent(SecurityEventType.SESSION_CREATED, detail=HOSTILE), when=1.0)
def test_a_line_of_the_file_is_that_of_the_log(event: SecurityEvent, when: float, log: Log) -> None:
    security.record(event)
    record = log.records.pop()
    record.created = when
    assert security_lines.line(event, when) == JsonFormatter().format(record)


class Sink:
    """An ``EventSink`` that keeps events, or not."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.taken: list[tuple[SecurityEvent, float]] = []

    def take(self, event: SecurityEvent, when: float) -> bool:
        self.taken.append((event, when))
        return self.keeps


@pytest.mark.parametrize("event_type", SecurityEventType)
@pytest.mark.parametrize("keeps", [True, False])
def test_an_event_is_in_the_log_unless_the_file_alone_has_it(
    event_type: SecurityEventType, log: Log, *, keeps: bool
) -> None:
    event = SecurityEvent(event_type, detail="d")
    file, counts = Sink(keeps=keeps), Sink(keeps=False)
    with security.also_given_to(file), security.also_given_to(counts):
        security.record(event)
    security.record(SecurityEvent(SecurityEventType.SERVICE_STARTED))
    assert [it for it, _ in file.taken] == [it for it, _ in counts.taken] == [event]
    logged, log.records = log.records[:-1], []
    assert len(logged) == (not (keeps and event_type in OF_FILE))
    # One time in both.
    assert all(it.created == file.taken[0][1] for it in logged)
    assert all(json.loads(JsonFormatter().format(it))["detail"] == "d" for it in logged)


def test_the_file_does_not_depend_on_the_log(log: Log) -> None:
    file = Sink(keeps=True)
    logging.disable()
    try:
        with security.also_given_to(file):
            security.record(SecurityEvent(SecurityEventType.SERVICE_STARTED))
    finally:
        logging.disable(logging.NOTSET)
    assert len(file.taken) == 1
    assert log.records == []
