"""What a request needs of its caller, by method and tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Requirement:
    """A valid token, and these scopes in it.

    Attributes:
        scopes: all of them are needed; empty when any valid token will do.
    """

    scopes: tuple[str, ...] = ()


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
    return Requirement(tuple(dict.fromkeys(scope for item in needed for scope in item.scopes)))
