"""What a request needs of its caller, by the settings of its route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authsvc.gateways.routes import Route
from authsvc.http_auth.requirements import Requirement


class RouteRequirement:
    """The requirement of one route; called as a ``requirements.RequirementOf``.

    Args:
        route: has the scopes.

    Attributes:
        widest: what all calls together need.
    """

    def __init__(self, route: Route) -> None:
        self._open_methods = route.open_methods
        self._any = Requirement(route.scopes)
        self._tools = {
            tool: Requirement(_united(route.scopes, scopes)) for tool, scopes in route.tools.items()
        }
        self.widest = Requirement(_united(route.scopes, *route.tools.values()))

    def __call__(self, method: str, params: Mapping[str, Any]) -> Requirement | None:
        """What a call needs; None where it is open."""
        if method == "tools/call":
            tool = params.get("name")
            if isinstance(tool, str) and tool in self._tools:
                return self._tools[tool]
        is_open = method in self._open_methods or method.startswith("notifications/")
        return None if is_open else self._any


def _united(*groups: tuple[str, ...]) -> tuple[str, ...]:
    """All scopes, each once."""
    return tuple(dict.fromkeys(scope for group in groups for scope in group))
