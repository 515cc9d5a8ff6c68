"""Where call events are written: a file in one of the formats, or the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from authsvc.audit import ocsf
from authsvc.audit.call_event import (
    CALL,
    CALL_TEXT,
    CALLS_DROPPED,
    DROPPED_TEXT,
    CallEvent,
)
from authsvc.audit.formats import AuditFormat
from authsvc.audit.log_records import log_record
from authsvc.audit.pending import Timed
from authsvc.audit.private_file import PrivateFile
from authsvc.audit.write_failures import WriteFailures

LOGGER_NAME = "authsvc.calls"

log = logging.getLogger(LOGGER_NAME)
# Independent of the level of the log, as security events are.
log.setLevel(logging.INFO)

CHECK_SECONDS = 1.0
"""A rotation of the file is noticed within this time."""

_DROPPED_MESSAGE = f"{DROPPED_TEXT}: %s"

_ENCODER = json.JSONEncoder(separators=(",", ":"))


class LogSink:
    """Events in the log, by ``authsvc.calls``.

    Args:
        sample_ratio: of the calls; a field of each event.
    """

    def __init__(self, sample_ratio: float) -> None:
        self._sample_ratio = sample_ratio
        self._failures = WriteFailures("the log")

    def write(self, events: Sequence[Timed]) -> bool:
        """See ``CallSink``, as for all that follows."""
        try:
            for when, event in events:
                log.handle(self._record(when, event))
        except Exception as error:  # noqa: BLE001 - of a handler; the thread goes on
            self._failures.failed(len(events), error)
            return False
        return True

    def _record(self, when: float, event: CallEvent) -> logging.LogRecord:
        record = log_record(log, logging.INFO, CALL_TEXT, call_fields(event, self._sample_ratio))
        record.created = when
        return record

    def report_dropped(self, count: int) -> bool:
        try:
            log.warning(_DROPPED_MESSAGE, count, extra=dropped_fields(count))
        except Exception as error:  # noqa: BLE001 - of a handler; the thread goes on
            self._failures.failed(0, error)
            return False
        return True

    def close(self) -> None:
        """Nothing is open."""


class FileSink:
    """Events in a file, a line each. The log has the reports of dropped ones as well.

    Args:
        path: the file.
        audit_format: of its lines.
        sample_ratio: of the calls; a field of each event.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """

    def __init__(self, path: Path, audit_format: AuditFormat, sample_ratio: float) -> None:
        self._file = PrivateFile(path, check_seconds=CHECK_SECONDS)
        self._failures = WriteFailures(path)
        self._is_ocsf = audit_format == "ocsf"
        self._sample_ratio = sample_ratio

    def write(self, events: Sequence[Timed]) -> bool:
        """See ``CallSink``, as for all that follows."""
        lines = [self._line(when, event) for when, event in events]
        return self._append(lines, calls=len(events))

    def report_dropped(self, count: int) -> bool:
        now = time.time()
        line: Mapping[str, object] = ocsf.calls_dropped(count, now)
        if not self._is_ocsf:
            line = _of_the_log(now, "warning", DROPPED_TEXT, dropped_fields(count))
        is_written = self._append([line], calls=0)
        if is_written:
            log.warning(_DROPPED_MESSAGE, count, extra=dropped_fields(count))
        return is_written

    def close(self) -> None:
        self._failures.close()
        self._file.close()

    def _line(self, when: float, event: CallEvent) -> Mapping[str, object]:
        if self._is_ocsf:
            return ocsf.call(event, when, self._sample_ratio)
        return _of_the_log(when, "info", CALL_TEXT, call_fields(event, self._sample_ratio))

    def _append(self, lines: Sequence[Mapping[str, object]], *, calls: int) -> bool:
        try:
            text = "".join(f"{_ENCODER.encode(line)}\n" for line in lines)
            self._file.append(text.encode())
        except Exception as error:  # noqa: BLE001 - reported; the thread goes on
            self._failures.failed(calls, error)
            return False
        self._failures.written()
        return True


def call_fields(event: CallEvent, sample_ratio: float) -> dict[str, object]:
    """The fields of a call event, as JSON has them."""
    values: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
    values["actors"] = [
        {"subject": actor.subject, "issuer": actor.issuer, "client_id": actor.client_id}
        for actor in event.actors
    ]
    values["arguments"] = dict(event.arguments)
    values["duration_seconds"] = round(event.duration_seconds, 6)
    return {"event_type": CALL, **values, "sample_ratio": sample_ratio}


def dropped_fields(count: int) -> dict[str, object]:
    """The fields of the report that calls were dropped."""
    return {"event_type": CALLS_DROPPED, "count": count}


def _of_the_log(
    when: float, level: str, text: str, values: Mapping[str, object]
) -> Mapping[str, object]:
    """A line with the fields that lines of the log have."""
    timestamp = datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
    return {"timestamp": timestamp, "level": level, "logger": LOGGER_NAME, "event": text, **values}


_FIELDS = tuple(item.name for item in fields(CallEvent))
