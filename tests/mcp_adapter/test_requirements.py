"""What needs a token when nobody says otherwise."""

from __future__ import annotations

import pytest

from mcp_adapter.requirements import (
    Requirement,
    default_requirement,
    union,
    with_broader_scopes,
)


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


@pytest.mark.parametrize(
    ("granted", "met"),
    [
        (["read", "write"], True),
        (["write", "admin", "read"], True),
        (["all"], True),
        (["root"], True),
        (["editor", "read"], True),
        (["editor"], False),
        (["read"], False),
        (["alles"], False),
        ([], False),
    ],
)
def test_a_broader_scope_stands_for_what_it_implies(granted: list[str], met: bool) -> None:
    implied = {"root": ["all"], "all": ["read", "write", "all"], "editor": ["write"]}
    of = with_broader_scopes(lambda method, params: Requirement(("read", "write")), implied)

    needed = of("tools/call", {})

    assert needed is not None
    assert needed.met_by(granted) is met
    together = union([needed, Requirement(("read",))])
    assert together is not None
    assert together.met_by(granted) is met
    assert together.scopes == ("read", "write")


def test_what_is_open_stays_open() -> None:
    of = with_broader_scopes(default_requirement, {"all": ["read"]})

    assert of("ping", {}) is None
    assert with_broader_scopes(default_requirement, {}) is default_requirement
