"""What a request needs of its caller, by method and tool."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from authsvc.common import arguments
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.rates import RateLimit, limits_of_call
from authsvc.http_auth.read_only import ReadOnlyParams
from authsvc.http_auth.refusals import Refusal, internal_error

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A valid token, and these scopes in it.

    Attributes:
        scopes: all of them are needed; empty when any valid token will do.
        implied_by: by scope, the broader scopes that imply it.
        rate_limits: what a call counts towards, beside the limits that authsvc has by itself; at
            most 16.

    Raises:
        TypeError: one of them is a string, or a limit, where several are meant.
        ValueError: no token could hold one of the scopes, or there are too many limits, or one
            twice.
    """

    scopes: tuple[str, ...] = ()
    implied_by: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rate_limits: tuple[RateLimit, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", arguments.scopes("scopes", self.scopes))
        arguments.mapping("implied_by", self.implied_by)
        broader = {
            scope: frozenset(arguments.scopes(f"implied_by[{scope!r}]", names))
            for scope, names in self.implied_by.items()
        }
        object.__setattr__(self, "implied_by", broader)
        object.__setattr__(self, "rate_limits", limits_of_call("rate_limits", self.rate_limits))

    def met_by(self, granted: Iterable[str]) -> bool:
        """Whether these scopes, or broader ones in their place, are among ``granted``."""
        if not self.scopes:
            return True
        held = frozenset(granted)
        return all(
            scope in held or not held.isdisjoint(self.implied_by.get(scope, ()))
            for scope in self.scopes
        )


RequirementOf = Callable[[str, Mapping[str, Any]], Requirement | None]
"""``(method, params)`` to what the request needs; None when it is open to anonymous callers."""


def check_function(requirement: object) -> None:
    """
    Raises:
        TypeError: it is no plain function of ``(method, params)``.
    """
    if isinstance(requirement, Requirement):
        raise TypeError(
            "requirement is a function of (method, params) that returns a Requirement or None, not "
            "a Requirement: write def requirement(method, params): return Requirement(...)"
        )
    arguments.plain_function("requirement", requirement, ("method", "params"))


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
"""Methods that list what a server offers, and return none of its data."""


_ANY_TOKEN = Requirement()


def default_requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """Open: ``OPEN_METHODS`` and notifications. Anything else needs a valid token.

    Unknown methods need a token: a method that is added to a server later is not open by oversight.
    """
    if method in OPEN_METHODS or method.startswith("notifications/"):
        return None
    return _ANY_TOKEN


def required(
    requirement: RequirementOf, method: str, params: Mapping[str, Any]
) -> Requirement | None:
    """What one call needs of its caller; None when it is open.

    ``requirement`` cannot change the params: the app gets those that were authorised.

    Raises:
        Refusal: 500. ``requirement`` has raised, or has returned another type; the log says which.
    """
    try:
        return evaluated(requirement, method, params)
    except Refusal:
        raise
    except NoRequirementError as error:
        log.error("%s", error)
    except Exception as error:  # noqa: BLE001 - fails closed, whatever it raises
        log_unexpected(log, "the requirement failed", error)
    raise internal_error()


_lookups: ContextVar[dict[object, Any] | None] = ContextVar("_lookups", default=None)


@contextmanager
def asked_together() -> Iterator[None]:
    """Requirements that are asked within it look up once what is the same for all of them.

    Nothing may wait within it: what they look up does not change meanwhile.
    """
    token = _lookups.set({})
    try:
        yield
    finally:
        _lookups.reset(token)


def lookups() -> dict[object, Any]:
    """What the requirements that are asked together have looked up, each by a key of its own; a new
    one for a requirement that is asked by itself."""
    found = _lookups.get()
    return {} if found is None else found


class NoRequirementError(TypeError):
    """A requirement function has returned another type."""


def evaluated(
    requirement: RequirementOf, method: str, params: Mapping[str, Any]
) -> Requirement | None:
    """As ``required``, without a log line.

    Raises:
        NoRequirementError: ``requirement`` has returned another type.
        Exception: it has raised that.
    """
    needed: object = requirement(method, ReadOnlyParams(params))
    if needed is None or isinstance(needed, Requirement):
        return needed
    if inspect.iscoroutine(needed):
        needed.close()
    kind = type(needed).__name__
    raise NoRequirementError(f"the requirement is a Requirement or None, not a {kind}")


def union(requirements: Iterable[Requirement | None]) -> Requirement | None:
    """What one call needs for all of them together; None when none of them needs anything.

    A limit that several of them have counts once.

    Raises:
        ValueError: together they have too many limits.
    """
    needed = [requirement for requirement in requirements if requirement is not None]
    limits = dict.fromkeys(limit for item in needed for limit in item.rate_limits)
    return _with_scopes_of(needed, tuple(limits))


def needed_for_all(requirements: Sequence[Requirement | None]) -> Requirement | None:
    """What several calls need of their caller. Their limits are counted call by call, so it has
    none, unless there is one call."""
    return _with_scopes_of([it for it in requirements if it is not None], ())


def _with_scopes_of(
    needed: Sequence[Requirement], rate_limits: tuple[RateLimit, ...]
) -> Requirement | None:
    if len(needed) < 2:
        return needed[0] if needed else None
    implied_by: dict[str, frozenset[str]] = {}
    for item in needed:
        for scope in item.scopes:
            broader = item.implied_by.get(scope, frozenset())
            # A broader scope that implies it in one of them may not do so in another.
            implied_by[scope] = implied_by.get(scope, broader) & broader
    return Requirement(
        tuple(implied_by),
        {scope: broader for scope, broader in implied_by.items() if broader},
        rate_limits,
    )


def with_broader_scopes(
    requirement: RequirementOf, implied: Mapping[str, Iterable[str]]
) -> RequirementOf:
    """``requirement``, met by broader scopes too (MCP 2026-07-28 "Step-Up Authorization Flow").

    A challenge goes on naming the narrow scopes: they are what a request needs.

    Args:
        requirement: what a request needs.
        implied: by broader scope, the scopes that it implies, and those that they imply in turn.

    Raises:
        TypeError: ``requirement`` is no plain function, or one of ``implied`` is a string where
            several are meant.
        ValueError: no token could hold one of the scopes, or one of ``implied`` implies no other.
    """
    check_function(requirement)
    arguments.mapping("implied", implied)
    arguments.scopes("implied", implied)
    narrower = {
        broader: arguments.scopes(f"implied[{broader!r}]", names)
        for broader, names in implied.items()
    }
    for broader, names in narrower.items():
        if not {*names} - {broader}:
            raise ValueError(f"implied[{broader!r}] has no effect: it implies no other scope")
    implied_by: dict[str, frozenset[str]] = {}
    for broader in narrower:
        for scope in _closure(broader, narrower):
            implied_by[scope] = implied_by.get(scope, frozenset()) | {broader}

    none = frozenset[str]()

    def with_broader(method: str, params: Mapping[str, Any]) -> Requirement | None:
        needed = requirement(method, params)
        if not isinstance(needed, Requirement):
            return needed  # what is neither is for ``required`` to refuse
        broader = {
            scope: names
            for scope in needed.scopes
            if (names := implied_by.get(scope, none) | needed.implied_by.get(scope, none))
        }
        return Requirement(needed.scopes, broader, needed.rate_limits)

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
