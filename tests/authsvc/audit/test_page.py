"""docs/audit.md has every field and type, in both formats, and where OCSF has each."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from authsvc.audit import ocsf
from authsvc.audit.admin_actions import MOST_EVENTS, WINDOW_SECONDS
from authsvc.audit.call_event import (
    CUT,
    MAX_METHOD_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    CallEvent,
    CallOutcome,
)
from authsvc.audit.calls import ANONYMOUS_AT_ONCE, ANONYMOUS_PER_SECOND
from authsvc.audit.pending import CLOSE_SECONDS, MAX_CHARACTERS, MAX_EVENTS
from authsvc.audit.security import SecurityEvent, SecurityEventType
from authsvc.audit.sessions import ANONYMOUS_AT_ONCE as SESSIONS_AT_ONCE
from authsvc.audit.sessions import ANONYMOUS_PER_SECOND as OF_SESSIONS
from authsvc.domain.resolution import Actor
from tests.authsvc.audit.test_calls import AS_JSON

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
OF_THE_LOG = ["timestamp", "level", "logger", "event"]
ADDRESS = "192.0.2.7"


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> Iterator[list[str]]:
    for line in section(title).splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def named(title: str) -> list[str]:
    return [row[0].strip("`") for row in rows(title)]


def documented_paths(title: str) -> dict[str, set[str]]:
    return {
        row[0].strip("`"): {it for it in re.findall(r"`([a-z_.\[\]]+)`", row[2]) if "." in it}
        for row in rows(title)
    }


def values(event: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each value of an event, with its path."""
    if isinstance(event, dict):
        for name, value in event.items():
            yield from values(value, f"{path}.{name}" if path else name)
    elif isinstance(event, list):
        for value in event:
            yield from values(value, f"{path}[]")
    else:
        yield path, event


def paths_of(events: list[dict[str, Any]], marks: Mapping[str, object]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        for path, value in values(event):
            for name, mark in marks.items():
                if value == mark and "." in path:
                    found[name].add(path)
    return dict(found)


def test_fields_of_security_events() -> None:
    names = [field.name for field in fields(SecurityEvent)]
    assert named("Fields of security events") == [*OF_THE_LOG, *names]


def test_types() -> None:
    assert named("Types") == list(SecurityEventType)


def test_fields_of_calls() -> None:
    assert sorted(named("Fields of calls")) == sorted(AS_JSON)


def test_the_example() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(example) == AS_JSON


def test_the_numbers() -> None:
    assert f"{MAX_EVENTS:,} that wait" in PAGE
    assert MAX_CHARACTERS == 4_000_000
    assert f"cut at {MAX_VALUE_CHARACTERS} characters, methods at {MAX_METHOD_CHARACTERS}," in PAGE
    assert f"then end in `{CUT}`" in PAGE
    assert f"{ANONYMOUS_PER_SECOND:.0f} a second without a subject" in PAGE
    assert f"({ANONYMOUS_AT_ONCE:,.0f} at once;" in PAGE
    assert f"for {CLOSE_SECONDS:.0f}\nseconds" in PAGE
    sessions = (
        f"beyond {OF_SESSIONS:.0f} events a second ({SESSIONS_AT_ONCE:.0f} at once) of sessions"
    )
    assert sessions in PAGE
    assert (MOST_EVENTS, WINDOW_SECONDS) == (5, 60)
    assert "an event five times a minute" in PAGE


def as_ocsf(event: SecurityEvent) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(ocsf.security_line(event, 1_800_000_000.0))
    return line


def test_where_ocsf_has_the_fields_of_security_events() -> None:
    marks = {field.name: f"mark of {field.name}" for field in fields(SecurityEvent)[1:]}
    marks["client_address"] = ADDRESS
    events = [as_ocsf(SecurityEvent(kind, **marks)) for kind in SecurityEventType]
    no_address = {**marks, "client_address": "no address"}
    found = paths_of(events, marks)
    last = [as_ocsf(SecurityEvent(SecurityEventType.TOKEN_REJECTED, **no_address))]
    found["client_address"] |= paths_of(last, no_address)["client_address"]
    documented = documented_paths("Fields of security events")
    assert {name: documented[name] for name in found} == found
    # Paths without a dot are those of every event.
    assert {name for name in marks if name not in found} == {"reason", "detail"}
    for event in events:
        assert event["status_code"] == "mark of reason"
        assert event["status_detail"] == "mark of detail"


def test_where_ocsf_has_the_fields_of_calls() -> None:
    names = ("method", "tool", "reason", "caller", "resource", "issuer", "subject", "client_id")
    marks: dict[str, Any] = {name: f"mark of {name}" for name in (*names, "session", "trace_id")}
    marks |= {"client_address": ADDRESS, "status": 418, "duration_seconds": 1.234}
    event = CallEvent(
        outcome=CallOutcome.FAILED,
        actors=(Actor("a subject"),),
        arguments={"bucket": "b1"},
        **marks,
    )
    line = ocsf.call(event, 2e9, 0.125)
    marks |= {"duration_seconds": 1234, "actors": "a subject", "arguments": "b1"}
    found = paths_of([line], {**marks, "sample_ratio": 0.125, "event_type": "CALL"})
    other = ocsf.call(replace(event, client_address="no address"), 2e9, 1.0)
    found["client_address"] |= paths_of([other], {"client_address": "no address"})["client_address"]
    documented = documented_paths("Fields of calls")
    documented["tool"].remove("resources[].type")
    documented["actors"] = {"unmapped.actors[].subject"}
    documented["arguments"] = {"resources[].data.arguments.bucket"}
    assert {name: documented[name] for name in found} == found
    assert line["status_code"] == "mark of reason"
    assert line["duration"] == 1234


def classes() -> Iterator[tuple[str, list[str]]]:
    for row in rows("Classes of OCSF"):
        for event_type in re.findall(r"`([A-Z_]+)`", row[0]):
            yield event_type, row


@pytest.mark.parametrize("event_type", SecurityEventType)
def test_classes_of_security_events(event_type: SecurityEventType) -> None:
    row = dict(classes())[event_type]
    event = as_ocsf(SecurityEvent(event_type, detail="ListSessions; from unix:"))
    assert row[1] == f"{event['class_name']} ({event['class_uid']})"
    assert row[3] == event["status"]
    assert event["activity_name"] in row[2] or (event["activity_id"] == 99 and "Other" in row[2])


def test_classes_of_calls() -> None:
    documented = dict(classes())
    call = ocsf.call(
        CallEvent("tools/list", CallOutcome.SUCCEEDED, trace_id="1"), when=0.0, sample_ratio=1.0
    )
    for event_type, event in (("CALL", call), ("CALLS_DROPPED", ocsf.calls_dropped(1, 0.0))):
        row = documented[event_type]
        assert row[1].startswith(f"{event['class_name']} ({event['class_uid']})")
        assert all(profile in row[1] for profile in event["metadata"].get("profiles", ()))
        assert event["activity_name"] in row[2]
