"""Limits that settings have for tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authsvc.http_auth.tool_limits import ToolLimit, with_tool_limits
from mcp_adapter import Rate, RateLimit, Requirement, default_requirement

OWN, SEARCH, ALL = (RateLimit(name, Rate(1.0, 2.0)) for name in ("own", "search", "all"))
LIMITS = [ToolLimit(SEARCH, ("search", "find")), ToolLimit(ALL)]


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """One tool is open, and one has a limit of its own."""
    if params.get("name") == "public":
        return None
    if params.get("name") == "find":
        return Requirement(("read",), rate_limits=(OWN,))
    return default_requirement(method, params)


def limits_of(method: str, **params: object) -> tuple[RateLimit, ...] | None:
    needed = with_tool_limits(requirement, LIMITS)(method, params)
    return None if needed is None else needed.rate_limits


def test_a_call_has_the_limits_of_its_tool_and_of_all_calls() -> None:
    assert limits_of("tools/call", name="search") == (SEARCH, ALL)
    assert limits_of("tools/call", name="find") == (OWN, SEARCH, ALL)
    assert limits_of("tools/call", name="write") == (ALL,)
    # A prompt of a tool's name is no call of the tool.
    assert limits_of("prompts/get", name="search") == (ALL,)
    assert limits_of("tools/call", name=["search"]) == (ALL,)
    assert limits_of("tools/call") == (ALL,)


def test_what_is_open_has_no_limits() -> None:
    assert limits_of("tools/call", name="public") is None
    assert limits_of("tools/list") is None


def test_scopes_are_as_they_were() -> None:
    needed = with_tool_limits(requirement, LIMITS)("tools/call", {"name": "find"})
    assert needed is not None
    assert needed.scopes == ("read",)


def test_without_limits_nothing_changes() -> None:
    assert with_tool_limits(requirement, []) is requirement
