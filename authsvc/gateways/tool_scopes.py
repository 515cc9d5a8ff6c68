"""What a request needs of its caller, by the settings of its route."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from authsvc.gateways.routes import Route
from authsvc.http_auth.requirements import Requirement
from authsvc.http_auth.tool_limits import limits_of

_TOOL_CALL = "tools/call"


class RouteRequirement:
    """The requirement of one route; called as a ``requirements.RequirementOf``.

    Args:
        route: has the scopes and the limits.

    Attributes:
        widest: what all calls together need. A call that may be any counts towards all limits.
    """

    def __init__(self, route: Route) -> None:
        self._open_methods = route.open_methods
        limits = route.rate_limits
        self._any = Requirement(route.scopes, rate_limits=limits_of(None, limits))
        limited = (tool for item in limits for tool in item.tools)
        by_tool = dict.fromkeys(map(_folded, limited), route.scopes)
        for tool, scopes in route.tools.items():
            name = _folded(tool)
            by_tool[name] = _united(route.scopes, by_tool.get(name, ()), scopes)
        self._tools = {
            name: Requirement(scopes, rate_limits=limits_of(name, limits, _folded))
            for name, scopes in by_tool.items()
        }
        self.widest = Requirement(
            _united(route.scopes, *route.tools.values()),
            rate_limits=tuple(item.limit for item in limits),
        )

    def __call__(self, method: str, params: Mapping[str, Any]) -> Requirement | None:
        """What a call needs; None where it is open.

        Servers in any language are behind a gateway. One may ignore the case of names, or take
        params by their position: a call whose tool is not named here may be any.
        """
        if self._tools and _folded(method) == _TOOL_CALL:
            tool = params.get("name")
            if not isinstance(tool, str):
                return self.widest
            if (needed := self._tools.get(_folded(tool))) is not None:
                return needed
        is_open = method in self._open_methods or method.startswith("notifications/")
        return None if is_open else self._any


def _folded(name: str) -> str:
    """A name without what a server may ignore in it: case, forms of one character, and white space
    around it."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _united(*groups: tuple[str, ...]) -> tuple[str, ...]:
    """All scopes, each once."""
    return tuple(dict.fromkeys(scope for group in groups for scope in group))
