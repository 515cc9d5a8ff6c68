"""Every event is valid by OCSF's own schema, whatever is in its fields."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from authsvc.audit import ocsf
from authsvc.audit.call_event import CallEvent, CallOutcome
from authsvc.audit.security import SecurityEvent, SecurityEventType
from authsvc.audit.unanswered import OUTCOME_UNKNOWN
from authsvc.domain.resolution import Actor

SCHEMAS = Path(__file__).parent / "schemas"
BY_CLASS = {
    3002: "authentication",
    6002: "application_lifecycle",
    6003: "api_activity",
    6008: "application_error",
}
DOCUMENT = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()


@cache
def validator(class_uid: int) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{BY_CLASS[class_uid]}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def checked(event: dict[str, Any]) -> dict[str, Any]:
    """The event, valid, with names beside its numbers as the schema's captions have them."""
    found: dict[str, Any] = json.loads(json.dumps(event))
    validator(found["class_uid"]).validate(found)
    assert found["metadata"]["version"] == "1.8.0"
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    return found


def line_of(event: SecurityEvent) -> dict[str, Any]:
    line = ocsf.security_line(event, 1_800_000_000.0)
    assert re.fullmatch(r"[ -~]+", line)
    return checked(json.loads(line))


TEXTS = st.text(max_size=40)
SECURITY_EVENTS = st.builds(
    SecurityEvent,
    st.sampled_from(SecurityEventType),
    **{field.name: TEXTS for field in fields(SecurityEvent)[1:]},
)
ACTORS = st.builds(Actor, TEXTS, TEXTS, TEXTS)
CALL_EVENTS = st.builds(
    CallEvent,
    method=TEXTS | st.sampled_from(["tools/call", "resources/read", "prompts/list"]),
    outcome=st.sampled_from(CallOutcome),
    status=st.integers(0, 599),
    duration_seconds=st.floats(0, 1e6),
    client_address=TEXTS | st.ip_addresses().map(str),
    actors=st.lists(ACTORS, max_size=8).map(tuple),
    arguments=st.dictionaries(TEXTS, TEXTS, max_size=4),
    **dict.fromkeys(
        (
            *("tool", "reason", "caller", "session", "resource", "issuer", "subject"),
            *("client_id", "trace_id"),
        ),
        TEXTS,
    ),
)


@given(event=SECURITY_EVENTS)
def test_any_security_event(event: SecurityEvent) -> None:
    found = line_of(event)
    assert found["metadata"]["event_code"] == event.event_type


@pytest.mark.parametrize("event_type", SecurityEventType)
def test_every_type_with_no_more_than_it_needs(event_type: SecurityEventType) -> None:
    line_of(SecurityEvent(event_type))


@pytest.mark.parametrize(
    ("event_type", "detail", "status"),
    [
        ("SESSION_CREATED", "", "Success"),
        ("SESSION_CREATED", f"{OUTCOME_UNKNOWN}: why", "Unknown"),
        ("SESSION_REAUTHENTICATED", f"{OUTCOME_UNKNOWN}: why", "Unknown"),
        ("SESSION_REVOKED", f"{OUTCOME_UNKNOWN}: why", "Unknown"),
        ("TOKENS_REVOKED", f"{OUTCOME_UNKNOWN}: why", "Unknown"),
        # Details of others quote what clients have sent.
        ("TOKEN_REJECTED", f"{OUTCOME_UNKNOWN}: why", "Failure"),
    ],
)
def test_an_unknown_outcome_is_no_success(event_type: str, detail: str, status: str) -> None:
    event = SecurityEvent(SecurityEventType(event_type), detail=detail)
    assert line_of(event)["status"] == status


@pytest.mark.parametrize(("subject", "activity_id"), [("alice", 1), ("", 99)])
def test_a_session_without_a_subject_is_no_logon(subject: str, activity_id: int) -> None:
    event = SecurityEvent(SecurityEventType.SESSION_CREATED, session="s", subject=subject)
    assert line_of(event)["activity_id"] == activity_id


@given(event=CALL_EVENTS, ratio=st.floats(0.001, 1))
def test_any_call(event: CallEvent, ratio: float) -> None:
    found = checked(ocsf.call(event, 2e9, ratio))
    assert found["unmapped"]["sample_ratio"] == ratio


def test_the_report_of_dropped_calls() -> None:
    found = checked(ocsf.calls_dropped(7, 2e9))
    assert (found["class_uid"], found["count"]) == (6008, 7)


@pytest.mark.parametrize(
    ("name", "number"),
    [("class", "class_uid"), ("category", "category_uid"), ("status", "status_id")],
)
def test_numbers_have_their_names(name: str, number: str) -> None:
    found = checked(ocsf.call(CallEvent("tools/list", CallOutcome.SUCCEEDED), 2e9, 1.0))
    assert found[f"{name}_name" if name in {"class", "category"} else name]
    assert found[number]


def test_a_call() -> None:
    event = CallEvent(
        "tools/call",
        CallOutcome.DENIED,
        tool="put_object",
        reason="INSUFFICIENT_SCOPE",
        status=403,
        duration_seconds=0.0126,
        caller="mcp-adapter",
        session="01234567…",
        resource="https://mcp.example.com/mcp",
        issuer="https://idp.example",
        subject="alice",
        client_id="app1",
        actors=(Actor("agent", "https://idp.example", "c1"), Actor("first")),
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        client_address="2001:db8::7",
        arguments={"bucket": "b1"},
    )
    found = checked(ocsf.call(event, 2e9, 0.01))
    del found["metadata"]["product"]
    assert found == {
        "metadata": {
            "version": "1.8.0",
            "log_name": "authsvc.calls",
            "event_code": "CALL",
            "profiles": ["security_control", "trace"],
        },
        "time": 2_000_000_000_000,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "activity_id": 99,
        "activity_name": "tools/call",
        "type_uid": 600399,
        "severity_id": 2,
        "severity": "Low",
        "status_id": 2,
        "status": "Failure",
        "status_code": "INSUFFICIENT_SCOPE",
        "action_id": 2,
        "action": "Denied",
        "disposition_id": 2,
        "disposition": "Blocked",
        "duration": 13,
        "actor": {
            "user": {"uid": "alice", "domain": "https://idp.example"},
            "session": {"uid": "01234567…", "issuer": "https://idp.example"},
            "app_uid": "app1",
        },
        "src_endpoint": {"ip": "2001:db8::7"},
        "api": {
            "operation": "tools/call",
            "service": {"name": "mcp-adapter", "uid": "https://mcp.example.com/mcp"},
        },
        "resources": [
            {
                "name": "put_object",
                "type": "MCP tool",
                "role_id": 1,
                "role": "Target",
                "data": {"arguments": {"bucket": "b1"}},
            }
        ],
        "http_response": {"code": 403, "latency": 13},
        "trace": {"uid": "4bf92f3577b34da6a3ce929d0e0e4736"},
        "unmapped": {
            "sample_ratio": 0.01,
            "actors": [
                {"subject": "agent", "issuer": "https://idp.example", "client_id": "c1"},
                {"subject": "first", "issuer": "", "client_id": ""},
            ],
        },
    }


@pytest.mark.parametrize(
    ("method", "activity"),
    [
        ("tools/list", (2, "Read")),
        ("resources/read", (2, "Read")),
        ("prompts/get", (2, "Read")),
        ("initialize", (99, "initialize")),
        ("", (99, "unknown")),
    ],
)
def test_activities_of_methods(method: str, activity: tuple[int, str]) -> None:
    found = checked(ocsf.call(CallEvent(method, CallOutcome.ENDED), 2e9, 1.0))
    assert (found["activity_id"], found["activity_name"]) == activity
    assert (found["status_id"], found["status"]) == (99, "Ended")


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("tools/call", "MCP tool"),
        ("prompts/get", "MCP prompt"),
        ("resources/read", "MCP resource"),
    ],
)
def test_kinds_of_what_is_called(method: str, kind: str) -> None:
    event = CallEvent(method, CallOutcome.SUCCEEDED, tool="name")
    assert checked(ocsf.call(event, 2e9, 1.0))["resources"][0]["type"] == kind


@pytest.mark.parametrize(
    ("method", "activity"),
    [
        ("ListSessions", "Read"),
        ("WatchSessions", "Read"),
        ("RevokeSessions", "Delete"),
        ("Else", "Else"),
    ],
)
def test_activities_of_operators(method: str, activity: str) -> None:
    event = SecurityEvent(
        SecurityEventType.ADMIN_ACTION, caller="ops", detail=f"{method}; from ipv4:127.0.0.1:1"
    )
    found = line_of(event)
    assert found["activity_name"] == activity
    assert found["api"]["operation"] == f"authsvc.v1.SessionAdminService/{method}"
    assert found["actor"] == {"app_name": "ops"}


def test_a_rejected_token() -> None:
    event = SecurityEvent(
        SecurityEventType.SUBJECT_MISMATCH,
        reason="SESSION_SUBJECT_MISMATCH",
        caller="mcp",
        session="01234567…",
        resource="https://mcp.example.com/mcp",
        issuer="https://idp.example",
        subject="mallory",
        client_id="app1",
        token_id="j1",
        detail="of alice",
        setting="issuers",
        client_address="192.0.2.7",
    )
    found = line_of(event)
    for name in ("metadata", "time"):
        del found[name]
    assert found == {
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": 3002,
        "class_name": "Authentication",
        "activity_id": 1,
        "activity_name": "Logon",
        "type_uid": 300201,
        "severity_id": 3,
        "severity": "Medium",
        "status_id": 2,
        "status": "Failure",
        "status_code": "SESSION_SUBJECT_MISMATCH",
        "status_detail": "of alice",
        "message": "a token of another subject was rejected",
        "unmapped": {"setting": "issuers"},
        "service": {"name": "mcp", "uid": "https://mcp.example.com/mcp"},
        "auth_protocol_id": 6,
        "auth_protocol": "OAUTH 2.0",
        "user": {"uid": "mallory", "domain": "https://idp.example"},
        "actor": {"app_uid": "app1"},
        "session": {"uid": "01234567…", "issuer": "https://idp.example"},
        "authentication_token": {"uid": "j1", "type": "Access Token"},
        "src_endpoint": {"ip": "192.0.2.7"},
    }


@pytest.mark.parametrize(
    ("subject", "token_id", "user"),
    [
        ("alice", "", {"uid": "alice", "domain": "i"}),
        ("", "j1", {"name": "unknown"}),
        ("", "", {"name": "everyone"}),
    ],
)
def test_whose_tokens_were_revoked(subject: str, token_id: str, user: dict[str, str]) -> None:
    event = SecurityEvent(
        SecurityEventType.TOKENS_REVOKED,
        caller="ops",
        issuer="i",
        subject=subject,
        token_id=token_id,
    )
    found = line_of(event)
    assert (found["activity_name"], found["user"]) == ("Logoff", user)
    assert found["actor"] == {"app_name": "ops"}


def test_a_signal_is_the_providers_and_about_a_user() -> None:
    event = SecurityEvent(
        SecurityEventType.SIGNAL_RECEIVED,
        caller="signals[https://idp.example]",
        issuer="https://idp.example",
        subject="alice",
        token_id="j1",
    )
    found = line_of(event)
    assert found["actor"] == {"app_name": "signals[https://idp.example]"}
    assert found["resources"] == [
        {
            "uid": "alice",
            "namespace": "https://idp.example",
            "type": "User",
            "role_id": 1,
            "role": "Target",
        }
    ]
    assert found["api"]["token"] == {"uid": "j1", "type": "Security Event Token"}


def test_a_denied_caller() -> None:
    event = SecurityEvent(SecurityEventType.CALLER_DENIED, reason="CALLER_UNAUTHENTICATED")
    found = line_of(event)
    assert found["user"] == {"name": "unknown", "type_id": 4, "type": "Service"}


def test_an_address_with_a_long_zone_is_a_name() -> None:
    address = "fe80::1%" + "z" * 40
    event = CallEvent("ping", CallOutcome.SUCCEEDED, client_address=address)
    assert checked(ocsf.call(event, 2e9, 1.0))["src_endpoint"] == {"name": address}
