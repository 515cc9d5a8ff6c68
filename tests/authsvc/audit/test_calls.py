"""Calls are audited as the settings say: to a file or to the log, and never in the caller's way."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from authsvc.audit.call_sinks import LogSink
from authsvc.audit.calls import (
    ANONYMOUS_AT_ONCE,
    ANONYMOUS_PER_SECOND,
    CallAudit,
    CallEvent,
    CallOutcome,
    CallsAudited,
)
from authsvc.domain.resolution import Actor
from authsvc.telemetry.json_lines import JsonFormatter
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock

EVENT = CallEvent(
    "tools/call",
    CallOutcome.SUCCEEDED,
    tool="list_objects",
    status=0,
    duration_seconds=0.0123456789,
    caller="gateway",
    session="01234567…",
    resource="https://mcp.example.com/mcp",
    issuer="https://idp.example",
    subject="alice",
    client_id="app1",
    actors=(Actor("agent", client_id="c1"),),
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    client_address="192.0.2.7",
    arguments={"bucket": "b1"},
)
AS_JSON = {
    "timestamp": "2033-05-18T03:33:20Z",
    "level": "info",
    "logger": "authsvc.calls",
    "event": "a call",
    "event_type": "CALL",
    "method": "tools/call",
    "outcome": "SUCCEEDED",
    "tool": "list_objects",
    "reason": "",
    "status": 0,
    "duration_seconds": 0.012346,
    "caller": "gateway",
    "session": "01234567…",
    "resource": "https://mcp.example.com/mcp",
    "issuer": "https://idp.example",
    "subject": "alice",
    "client_id": "app1",
    "actors": [{"subject": "agent", "issuer": "", "client_id": "c1"}],
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "client_address": "192.0.2.7",
    "arguments": {"bucket": "b1"},
    "sample_ratio": 1.0,
}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("calls", "wanted"), [("off", 0), ("full", 1000)])
def test_none_or_all_are_audited(calls: CallsAudited, wanted: int) -> None:
    audit = CallAudit(calls)
    assert sum(audit.wants() for _ in range(1000)) == wanted


def test_a_ratio_is_audited() -> None:
    audit = CallAudit("sampled", sample_ratio=0.5)
    assert 300 < sum(audit.wants() for _ in range(1000)) < 700


def test_off_writes_nothing_and_makes_no_file(tmp_path: Path) -> None:
    audit = CallAudit("off", file=tmp_path / "calls")
    audit.record(EVENT)
    audit.close()
    assert list(tmp_path.iterdir()) == []
    assert sum(audit.counts.values()) == 0


def test_a_line_of_the_file_has_every_field(tmp_path: Path) -> None:
    audit = CallAudit(file=tmp_path / "calls", clock=lambda: 2e9)
    audit.record(EVENT)
    audit.close()
    assert lines(tmp_path / "calls") == [AS_JSON]
    assert {field.name for field in fields(CallEvent)} < set(AS_JSON)
    assert audit.counts == {"written": 1, "dropped": 0, "failed": 0}


def test_without_a_file_calls_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = CallAudit(clock=lambda: 2e9)
    audit.record(EVENT)
    audit.close()
    (record,) = [record for record in caplog.records if record.name == "authsvc.calls"]
    line = json.loads(JsonFormatter().format(record))
    assert {name: value for name, value in line.items() if name != "message"} == AS_JSON


def test_the_log_of_calls_ignores_the_level() -> None:
    assert logging.getLogger("authsvc.calls").isEnabledFor(logging.INFO)


def test_a_line_of_ocsf(tmp_path: Path) -> None:
    audit = CallAudit(file=tmp_path / "calls", format="ocsf", clock=lambda: 2e9)
    audit.record(EVENT)
    audit.close()
    (line,) = lines(tmp_path / "calls")
    assert (line["class_uid"], line["time"]) == (6003, 2_000_000_000_000)


def test_no_line_has_more_than_an_event(tmp_path: Path) -> None:
    audit = CallAudit(file=tmp_path / "calls")
    audit.record(CallEvent("a\n{}\r\u2028\x1b[2J\ud800", CallOutcome.FAILED, tool="\x00"))
    audit.close()
    (line,) = lines(tmp_path / "calls")
    assert line["method"] == "a\n{}\r\u2028\x1b[2J\ud800"
    assert re.fullmatch(rb"[ -~]+\n", (tmp_path / "calls").read_bytes())


def test_two_audits_and_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    audits = [CallAudit(file=path) for _ in range(2)]
    for audit in audits:
        for _ in range(500):
            audit.record(EVENT)
    for audit in audits:
        audit.close()
    assert len(lines(path)) == 1000


def test_a_fork_writes_its_own_calls(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    script = f"""
import os
from authsvc.audit.call_sinks import LogSink
from authsvc.audit.calls import CallAudit, CallEvent, CallOutcome
audit = CallAudit(file={str(path)!r})
audit.record(CallEvent("parent", CallOutcome.SUCCEEDED))
if not os.fork():
    audit.close()  # nothing of the parent's
    audit.record(CallEvent("child", CallOutcome.SUCCEEDED))
    audit.close()
    os._exit(0)
os.wait()
"""
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        check=True,
        timeout=TIMEOUT_SECONDS,
        cwd=Path(__file__).parents[3],
    )
    # The parent does not close: the end of its process writes what is pending.
    assert sorted(str(line["method"]) for line in lines(path)) == ["child", "parent"]


def test_the_end_of_the_process_writes_what_waits(tmp_path: Path) -> None:
    script = f"""
from authsvc.audit.calls import CallAudit, CallEvent, CallOutcome
audit = CallAudit(file={str(tmp_path / "calls")!r})
for _ in range(5000):
    audit.record(CallEvent("ping", CallOutcome.SUCCEEDED, subject="alice"))
"""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script]
    subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS, cwd=root)
    assert len(lines(tmp_path / "calls")) == 5000


def test_long_text_is_cut(tmp_path: Path) -> None:
    audit = CallAudit(file=tmp_path / "calls")
    audit.record(CallEvent("m" * 100_000, CallOutcome.FAILED))
    audit.close()
    assert (tmp_path / "calls").stat().st_size < 2000


def test_calls_of_nobody_neither_fill_the_disk_nor_displace_those_of_others(
    tmp_path: Path,
) -> None:
    """Anybody can make them, with the longest names, 50 in a request."""
    clock = Clock()
    audit = CallAudit(file=tmp_path / "calls", clock=clock)
    longest = "\U0001f600" * 1_000
    nobodys = CallEvent(longest, CallOutcome.DENIED, tool=longest)
    for _ in range(20_000):
        audit.record(nobodys)
    audit.record(CallEvent("tools/call", CallOutcome.SUCCEEDED, subject="alice"))
    clock.advance(1.0)
    for _ in range(1_000):
        audit.record(nobodys)
    audit.close()
    written = [line for line in lines(tmp_path / "calls") if line["event_type"] == "CALL"]
    assert [line["subject"] for line in written if line["subject"]] == ["alice"]
    kept = ANONYMOUS_AT_ONCE + ANONYMOUS_PER_SECOND
    assert len(written) == kept + 1
    assert audit.counts["dropped"] == 21_000 - kept
    assert (tmp_path / "calls").stat().st_size < 5_000 * kept


def test_a_closed_audit_drops_and_counts(tmp_path: Path) -> None:
    audit = CallAudit(file=tmp_path / "calls")
    audit.close()
    audit.close()
    audit.record(EVENT)
    assert audit.counts["dropped"] == 1


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        CallAudit(file=tmp_path / "link")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calls": "some"}, "calls is one of off, sampled, full, not 'some'"),
        ({"sample_ratio": 0.0}, "more than 0"),
        ({"sample_ratio": 1.5}, "at most 1"),
        ({"sample_ratio": float("nan")}, "at most 1"),
        ({"format": "xml", "file": "f"}, "json, ocsf"),
        ({"format": "ocsf"}, "set file, too"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CallAudit(**arguments)  # type: ignore[arg-type]


def test_dropped_calls_are_reported_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert LogSink(1.0).report_dropped(3)
    (record,) = [record for record in caplog.records if record.name == "authsvc.calls"]
    assert record.levelname == "WARNING"
    assert (record.__dict__["event_type"], record.__dict__["count"]) == ("CALLS_DROPPED", 3)


def test_a_handler_that_fails_does_not_end_the_audit(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyError("a value that is not shown")

    logger, handler = logging.getLogger("authsvc.calls"), Broken()
    audit = CallAudit()
    logger.addHandler(handler)
    try:
        audit.record(EVENT)
        audit.close()
    finally:
        logger.removeHandler(handler)
    assert audit.counts["failed"] == 1
    (record,) = [record for record in caplog.records if record.name == "authsvc.audit"]
    assert record.__dict__["error"] == "KeyError"


def test_a_field_may_be_one_of_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """Some programs give each record a trace id by a factory of their own."""
    factory = logging.getLogRecordFactory()

    def with_trace(*args: object, **values: object) -> logging.LogRecord:
        record = factory(*args, **values)
        record.trace_id = "of the thread"
        return record

    logging.setLogRecordFactory(with_trace)
    try:
        audit = CallAudit()
        audit.record(EVENT)
        audit.close()
    finally:
        logging.setLogRecordFactory(factory)
    (record,) = [record for record in caplog.records if record.name == "authsvc.calls"]
    assert record.__dict__["trace_id"] == EVENT.trace_id
