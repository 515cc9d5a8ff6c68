"""What a request needs of its caller, by method and tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Requirement:
    """A valid token, and these scopes in it.

    Attributes:
        scopes: all of them are needed; empty when any valid token will do.
        implied_by: for a scope, the broader ones that stand for it.
    """

    scopes: tuple[str, ...] = ()
    implied_by: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def met_by(self, granted: Iterable[str]) -> bool:
        """Whether these scopes, or broader ones in their place, are among ``granted``."""
        held = frozenset(granted)
        return all(
            scope in held or not held.isdisjoint(self.implied_by.get(scope, ()))
            for scope in self.scopes
        )


RequirementOf = Callable[[str, Mapping[str, Any]], Requirement | None]
"""``(method, params)`` to what the request needs; None when it is open to anonymous callers."""

OPEN_METHODS = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",  # changes nothing that outlives the request
    }
)
"""Requests that say what there is to ask for, and show nothing of what it holds."""


def default_requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """Open: ``OPEN_METHODS`` and notifications. Anything else needs a valid token.

    What is not known here is closed, so that a method added to a server later, or unknown to it, is
    never served to the anonymous by oversight.
    """
    if method in OPEN_METHODS or method.startswith("notifications/"):
        return None
    return Requirement()


def union(requirements: Iterable[Requirement | None]) -> Requirement | None:
    """What is needed for all of them together; None when none of them needs anything."""
    needed = [requirement for requirement in requirements if requirement is not None]
    if not needed:
        return None
    return Requirement(
        tuple(dict.fromkeys(scope for item in needed for scope in item.scopes)),
        {scope: broader for item in needed for scope, broader in item.implied_by.items()},
    )


def with_broader_scopes(
    requirement: RequirementOf, implied: Mapping[str, Iterable[str]]
) -> RequirementOf:
    """``requirement``, met by broader scopes too (MCP 2026-07-28 "Step-Up Authorization Flow").

    A challenge goes on naming the narrow scopes: they are what a request needs.

    Args:
        requirement: what a request needs.
        implied: by broader scope, the scopes that it implies, and those that they imply in turn.
    """
    implied_by: dict[str, frozenset[str]] = {}
    for broader in implied:
        for scope in _closure(broader, implied):
            implied_by[scope] = implied_by.get(scope, frozenset()) | {broader}

    def with_broader(method: str, params: Mapping[str, Any]) -> Requirement | None:
        needed = requirement(method, params)
        return needed and replace(needed, implied_by=implied_by)

    return with_broader if implied_by else requirement


def _closure(broader: str, implied: Mapping[str, Iterable[str]]) -> set[str]:
    """All that a scope implies, however indirectly."""
    found: set[str] = set()
    pending = [broader]
    while pending:
        for scope in implied.get(pending.pop(), ()):
            if scope not in found:
                found.add(scope)
                pending.append(scope)
    return found
