"""Limits that settings have for the tools of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from authsvc.domain.rates import RateLimit
from authsvc.http_auth.requirements import Requirement, RequirementOf


@dataclass(frozen=True, slots=True)
class ToolLimit:
    """A limit of some calls.

    Attributes:
        limit: which one.
        tools: whose calls count; empty for all calls that need a token.
    """

    limit: RateLimit
    tools: tuple[str, ...] = ()


def limits_of(
    tool: str | None, limits: Iterable[ToolLimit], folded: Callable[[str], str] = str
) -> tuple[RateLimit, ...]:
    """The limits of one call.

    Args:
        tool: that is called; None for any other call.
        limits: of the server.
        folded: a tool's name as it is compared.
    """
    return tuple(
        item.limit
        for item in limits
        if not item.tools or (tool is not None and tool in map(folded, item.tools))
    )


def with_tool_limits(requirement: RequirementOf, limits: Iterable[ToolLimit]) -> RequirementOf:
    """``requirement``, whose calls count towards limits as well.

    Args:
        requirement: what a call needs. One that it leaves open counts towards none.
        limits: of the server.
    """
    limits = tuple(limits)

    def with_limits(method: str, params: Mapping[str, Any]) -> Requirement | None:
        needed = requirement(method, params)
        if not isinstance(needed, Requirement):
            return needed  # what is neither is for ``required`` to refuse
        name = params.get("name") if method == "tools/call" else None
        found = limits_of(name if isinstance(name, str) else None, limits)
        return replace(needed, rate_limits=(*needed.rate_limits, *found)) if found else needed

    return with_limits if limits else requirement
