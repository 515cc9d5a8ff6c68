"""What FastMCP tools declare about their callers, as a requirement of the gate.

FastMCP is imported at the first use, so that this module imports without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from authsvc.common import extras

extras.need(__name__, "middleware", "anyio", "mcp_types", "starlette")
# isort: split

from authsvc.http_auth.requirements import (  # noqa: E402 - the extra is named first
    Requirement,
    RequirementOf,
    check_function,
    default_requirement,
    lookups,
    union,
)

if TYPE_CHECKING:
    from fastmcp import FastMCP
    from fastmcp.tools import Tool

__all__ = ["requirement_of"]


def requirement_of(
    mcp: FastMCP[Any], requirement: RequirementOf = default_requirement
) -> RequirementOf:
    """``requirement``, and for a call of a tool the scopes that it declares to FastMCP.

    These are the scopes of ``require_scopes`` and ``restrict_tag`` in ``@mcp.tool(auth=...)`` and
    in the server's ``AuthMiddleware``. They are looked up at each call, and once for a list that is
    filtered, so a tool that is added later counts. A token that lacks one of them is answered 403
    with all of them in the challenge, before FastMCP is asked.

    FastMCP decides alone where a tool has other checks too, such as ``require_roles``, and on tools
    of mounted servers and other providers, whose checks it does not show: it denies a call without
    their scopes as that of an unknown tool. Name the scopes of those in ``requirement``, which may
    ask the ``requirement_of`` a mounted server. Of a tool with several versions, the scopes that
    all of them declare are needed.

    Args:
        mcp: the server whose own tools are looked up.
        requirement: what else a request needs.

    Raises:
        TypeError: ``mcp`` is no FastMCP server, or ``requirement`` is no plain function.
    """
    from fastmcp import FastMCP

    if not isinstance(mcp, FastMCP):
        raise TypeError(f"mcp is a FastMCP server, not {type(mcp).__name__}")
    check_function(requirement)

    def with_declared_scopes(method: str, params: Mapping[str, Any]) -> Requirement | None:
        needed = requirement(method, params)
        if method != "tools/call" or not (needed is None or isinstance(needed, Requirement)):
            return needed  # what is neither is for the gate to reject
        scopes = _declared_scopes(mcp, params.get("name"))
        return union([needed, Requirement(scopes)]) if scopes else needed

    return with_declared_scopes


def _declared_scopes(mcp: FastMCP[Any], name: object) -> tuple[str, ...]:
    """The scopes that each version of a tool declares; empty when there is no such tool."""
    if not isinstance(name, str):
        return ()
    found, key = lookups(), (_declared_scopes, id(mcp))
    if key not in found:
        found[key] = _tools_by_name(mcp)
    by_version = [_scopes_of(tool, mcp) for tool in found[key].get(name, ())]
    return tuple(sorted(frozenset.intersection(*by_version))) if by_version else ()


def _tools_by_name(mcp: FastMCP[Any]) -> Mapping[str, Sequence[Tool]]:
    """The tools that the server itself has, each with all of its versions."""
    by_name: dict[str, list[Tool]] = {}
    for tool in _own_tools(mcp):
        by_name.setdefault(tool.name, []).append(tool)
    return by_name


def _scopes_of(tool: Tool, mcp: FastMCP[Any]) -> frozenset[str]:
    """The scopes that a call of a tool needs; empty when a check is about something else.

    Such a check may deny for another reason, and then a client must not be sent for scopes.
    """
    from fastmcp.server.auth import AccessToken, AuthContext
    from fastmcp.server.middleware import AuthMiddleware
    from fastmcp.utilities.authorization import scope_requirements

    without_scopes = AccessToken(token="", client_id="", scopes=[])
    context = AuthContext(token=without_scopes, component=tool)
    of_the_server = [item.auth for item in mcp.middleware if isinstance(item, AuthMiddleware)]
    scopes: set[str] = set()
    for checks in (tool.auth, *of_the_server):
        missing = [] if checks is None else scope_requirements(checks, context)
        if missing is None:
            return frozenset()
        scopes.update(missing)
    return frozenset(scopes)


def _own_tools(mcp: FastMCP[Any]) -> Sequence[Tool]:
    """The tools that the server itself has; empty when a transform of theirs has to wait.

    The gate asks outside of any task that could wait, and FastMCP lists by a coroutine alone. This
    one lists what is in memory, so it returns at its first step.
    """
    listing = mcp.local_provider.list_tools()
    try:
        listing.send(None)
    except StopIteration as done:
        tools: Sequence[Tool] = done.value
        return tools
    listing.close()
    return ()
