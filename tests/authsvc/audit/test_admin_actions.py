"""Operators' commands are audited one by one; a program in a loop fills no disk, and is counted."""

from __future__ import annotations

import pytest

from authsvc.audit.admin_actions import MAX_ACTIONS, MOST_EVENTS, WINDOW_SECONDS, AdminActions
from tests.support.clock import Clock


@pytest.fixture
def actions(clock: Clock, caplog: pytest.LogCaptureFixture) -> AdminActions:
    caplog.set_level("INFO")
    return AdminActions(clock)


def details(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [str(record.__dict__["detail"]) for record in caplog.records]
    assert {record.__dict__["event_type"] for record in caplog.records} <= {"ADMIN_ACTION"}
    caplog.clear()
    return found


def listed(actions: AdminActions, **changes: object) -> None:
    values: dict[str, object] = {
        "method": "ListSessions",
        "caller": "one",
        "peer": "ipv4:192.0.2.7:1",
        "request": b"f",
        **changes,
    }
    actions.acted(**values)  # type: ignore[arg-type] # as the arguments are


LINE = "ListSessions; from ipv4:192.0.2.7:1"


def test_the_pages_of_a_list_are_one_command(
    actions: AdminActions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    listed(actions)
    for _ in range(1_000):
        listed(actions, continues=True)
    assert details(caplog) == [LINE]
    clock.advance(WINDOW_SECONDS)
    for _ in range(10):
        listed(actions, continues=True)
    assert details(caplog) == [LINE]


@pytest.mark.parametrize(
    "other",
    [
        {"caller": "two"},
        {"peer": "ipv4:192.0.2.7:2"},
        {"request": b"g"},
        {"method": "WatchSessions"},
    ],
)
def test_a_token_that_goes_on_with_nothing_of_its_own_is_audited(
    other: dict[str, object], actions: AdminActions, caplog: pytest.LogCaptureFixture
) -> None:
    listed(actions)
    details(caplog)
    listed(actions, continues=True, **other)
    (detail,) = details(caplog)
    changed = {"method": "ListSessions", "peer": "ipv4:192.0.2.7:1", **other}
    assert detail == f"{changed['method']}; from {changed['peer']}"


def test_repetitions_are_counted(
    actions: AdminActions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(MOST_EVENTS + 212):
        listed(actions)
    assert details(caplog) == [LINE] * MOST_EVENTS
    listed(actions, request=b"another")
    assert details(caplog) == [LINE]
    clock.advance(WINDOW_SECONDS - 1)
    actions.report()
    assert details(caplog) == []
    clock.advance(1)
    listed(actions)
    actions.report()
    assert details(caplog) == [f"{LINE}; 212 more in 60 s", LINE]
    for _ in range(MOST_EVENTS + 1):
        listed(actions)
    details(caplog)
    clock.advance(10)
    actions.close()
    actions.close()
    assert details(caplog) == [f"{LINE}; 2 more in 10 s"]


def test_what_is_evicted_is_reported(
    actions: AdminActions, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(MOST_EVENTS + 3):
        listed(actions)
    for number in range(MAX_ACTIONS):
        listed(actions, request=str(number).encode())
    found = details(caplog)
    assert len(found) == MOST_EVENTS + MAX_ACTIONS + 1
    assert [it for it in found if it != LINE] == [f"{LINE}; 3 more in 0 s"]
    assert len(actions._recent) == MAX_ACTIONS
