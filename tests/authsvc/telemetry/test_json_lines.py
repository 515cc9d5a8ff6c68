"""JSON lines of the log, against those of structlog."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

import pytest
import structlog

from authsvc.telemetry.json_lines import JsonFormatter

STRUCTLOG = structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ],
    processors=[
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
)


def record(
    message: str, *values: object, extra: Mapping[str, object] | None = None, failed: bool = False
) -> logging.LogRecord:
    exc_info = None
    if failed:
        try:
            raise ValueError("of old")
        except ValueError:
            exc_info = sys.exc_info()
    made = logging.LogRecord("test", logging.WARNING, "", 1, message, values, exc_info)
    vars(made).update(extra or {})
    return made


@pytest.mark.parametrize(
    "made",
    [
        record("plain"),
        record("seen %s %d times", "it", 3),
        record("fields", extra={"b": 1, "a": None, "many": ["x"], "where": logging.Handler}),
        record("ünï\u2028 \x1b\n", extra={"subject": "\x9b\ud800"}),
        record("failed", failed=True),
        record("overridden", extra={"level": "mine", "event": "other"}),
        record("stack", extra={"stack_info": "Stack (most recent call last):\n  ..."}),
    ],
    ids=lambda made: made.msg.encode("ascii", "replace").decode(),
)
def test_a_line_is_as_structlog_has_it(made: logging.LogRecord) -> None:
    ours, theirs = json.loads(JsonFormatter().format(made)), json.loads(STRUCTLOG.format(made))
    assert ours.pop("timestamp").endswith("Z")
    del theirs["timestamp"]
    assert list(ours.items()) == list(theirs.items())


def test_the_time_is_when_it_was_logged() -> None:
    made = record("late")
    made.created = 1_700_000_000.25
    assert json.loads(JsonFormatter().format(made))["timestamp"] == "2023-11-14T22:13:20.250000Z"


def test_a_line_is_one_line_of_ascii() -> None:
    line = JsonFormatter().format(record("a\r\n\u2028\x1b[2J", failed=True))
    assert line.isascii()
    assert line.isprintable()
