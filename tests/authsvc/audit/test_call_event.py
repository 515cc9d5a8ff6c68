"""The text of a call event has bounds, and its arguments are those that are declared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.audit.call_event import (
    CUT,
    MAX_ARGUMENTS,
    MAX_METHOD_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    CallEvent,
    CallOutcome,
    bounded,
    declared_arguments,
)
from authsvc.domain.resolution import MAX_ACTORS, Actor

LONG = "x" * 100_000
SESSION = "0123456789abcdef"


def test_declared_arguments_alone_as_text() -> None:
    sent = {"bucket": "b1", "secret": "s3cr3t", "count": 7, "ratio": 0.5, "deep": True}
    names = ["bucket", "count", "ratio", "deep", "missing"]
    found = declared_arguments(sent, names)
    assert found == {"bucket": "b1", "count": "7", "ratio": "0.5", "deep": "true"}


def test_no_objects_and_no_nulls() -> None:
    sent = {"list": ["k"], "object": {"k": "v"}, "null": None}
    assert declared_arguments(sent, sent) == {}


def test_arguments_are_bounded() -> None:
    names = [f"n{number}" for number in range(100)]
    found = declared_arguments(dict.fromkeys(names, LONG), names)
    assert len(found) == MAX_ARGUMENTS
    for value in found.values():
        assert len(value) == MAX_VALUE_CHARACTERS
        assert value.endswith(CUT)


def test_a_number_of_many_digits_is_cut() -> None:
    assert declared_arguments({"n": 10**100_000}, ["n"]) == {"n": CUT}


def test_a_short_event_stays_as_it_is() -> None:
    event = CallEvent("tools/call", CallOutcome.SUCCEEDED, tool="t", session="01234567…")
    assert bounded(event) is event


def test_every_text_is_cut_and_a_session_is_never_whole() -> None:
    event = CallEvent(
        LONG,
        CallOutcome.DENIED,
        tool=LONG,
        reason=LONG,
        caller=LONG,
        session=SESSION,
        resource=LONG,
        issuer=LONG,
        subject=LONG,
        client_id=LONG,
        actors=(Actor(LONG, LONG, LONG),) * 100,
        trace_id=LONG,
        client_address=LONG,
        arguments={f"{LONG}{number}": LONG for number in range(100)} | {"n": LONG},
    )
    found = bounded(event)
    assert found.session == "01234567…"
    assert len(found.actors) == MAX_ACTORS
    assert len(found.arguments) <= MAX_ARGUMENTS
    assert found.characters < 50 * MAX_VALUE_CHARACTERS
    assert found.tool == "x" * (MAX_VALUE_CHARACTERS - len(CUT)) + CUT
    assert found.method == "x" * (MAX_METHOD_CHARACTERS - len(CUT)) + CUT


@pytest.mark.parametrize(
    "change",
    [
        {"subject": LONG},
        {"session": SESSION},
        {"actors": (Actor(LONG),)},
        {"actors": (Actor("a", client_id=LONG),)},
        {"actors": (Actor("a"),) * (MAX_ACTORS + 1)},
        {"arguments": {"n": LONG}},
        {"arguments": {LONG: "v"}},
        {"arguments": {str(number): "v" for number in range(MAX_ARGUMENTS + 1)}},
    ],
)
def test_each_bound_alone(change: dict[str, Any]) -> None:
    event = CallEvent("ping", CallOutcome.SUCCEEDED, **change)
    found = bounded(event)
    assert found.characters < event.characters or found.session == "01234567…"
    assert bounded(found) is found


@given(
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=20
    )
)
def test_whatever_is_sent_becomes_bounded_text(sent: dict[str, object]) -> None:
    found = declared_arguments(sent, sent)
    assert all(isinstance(sent[name], str | int | float) for name in found)
    assert all(len(value) <= MAX_VALUE_CHARACTERS for value in found.values())
    json.dumps(dict(found))
