"""What needs a token when nobody says otherwise."""

from __future__ import annotations

import pytest

from mcp_adapter.requirements import Requirement, default_requirement, union


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        "notifications/initialized",
        "notifications/cancelled",
    ],
)
def test_open(method: str) -> None:
    assert default_requirement(method, {}) is None


@pytest.mark.parametrize(
    "method",
    [
        "tools/call",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
        "tasks/result",
        "",
        "notifications",
        "Ping",
        "ping ",
    ],
)
def test_closed(method: str) -> None:
    assert default_requirement(method, {}) == Requirement()


def test_a_union_needs_all_scopes_once() -> None:
    first, second = Requirement(("a", "b")), Requirement(("b", "c"))

    assert union([None, first, second]) == Requirement(("a", "b", "c"))
    assert union([None, Requirement()]) == Requirement()
    assert union([None, None]) is None
    assert union([]) is None
