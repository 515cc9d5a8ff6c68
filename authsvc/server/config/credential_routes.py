"""Which table of ``[credentials]`` is for which principals, and what is wrong with that.

For a name and a resource, the tables that list the resource come before those that list none, then
the earlier one first; the first whose conditions hold is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from authsvc.common.setting_rules import Fault, Location
from authsvc.credentials import CredentialBroker
from authsvc.credentials.conditions import PrincipalConditions
from authsvc.credentials.routing import Route
from authsvc.domain.resolution import Principal
from authsvc.server.config.credentials import CredentialSettings, CredentialTable

_BEARER = {"exchange"}
"""The tables that give bearer tokens. Others give credentials of AWS."""


@dataclass(frozen=True, slots=True)
class RoutedTable:
    """A table of ``[credentials]``.

    Attributes:
        kind: ``static``, ``sts`` or ``exchange``.
        position: among the tables of its kind.
        table: its settings.
    """

    kind: str
    position: int
    table: CredentialTable

    @property
    def at(self) -> Location:
        """Where it is."""
        return ("credentials", self.kind, self.position)

    @property
    def label(self) -> str:
        """How messages name it, such as ``credentials.sts[0]``."""
        return f"credentials.{self.kind}[{self.position}]"

    @property
    def conditions(self) -> PrincipalConditions:
        """The principals that it is for."""
        return self.table.principals()

    def route(self, broker: CredentialBroker) -> Route:
        """The route to the broker that it has."""
        return Route(broker, self.table.name, self.table.resources, self.conditions, self.label)

    @property
    def is_bearer(self) -> bool:
        """Whether it gives bearer tokens."""
        return self.kind in _BEARER


def routed_tables(settings: CredentialSettings) -> list[RoutedTable]:
    """All tables, in their order."""
    kinds: dict[str, Sequence[CredentialTable]] = {
        "static": settings.static,
        "sts": settings.sts,
        "exchange": settings.exchange,
    }
    return [
        RoutedTable(kind, position, table)
        for kind, tables in kinds.items()
        for position, table in enumerate(tables)
    ]


def where_of(it: RoutedTable, tables: Sequence[RoutedTable]) -> str:
    """How a message names a table: with its position where there are several of its kind."""
    is_only = sum(other.kind == it.kind for other in tables) == 1
    return f"credentials.{it.kind}" if is_only else it.label


def tables_for(settings: CredentialSettings, name: str, resource: str) -> list[RoutedTable]:
    """The tables of a name at a resource; the first whose conditions hold is used.

    Args:
        settings: ``[credentials]``.
        name: of the credentials; empty for those without one.
        resource: where the token is presented.
    """
    return _in_order([it for it in routed_tables(settings) if it.table.name == name], resource)


def _in_order(tables: Sequence[RoutedTable], resource: str) -> list[RoutedTable]:
    """Those for a resource: the ones that list it come first."""
    return [
        *(it for it in tables if resource in it.table.resources),
        *(it for it in tables if not it.table.resources),
    ]


def routing_faults(
    settings: CredentialSettings, resources: AbstractSet[str], issuers: AbstractSet[str]
) -> Iterator[Fault]:
    """Faults of tables that are never used, or that give what another of their name does not.

    Args:
        settings: ``[credentials]``.
        resources: that a caller may resolve for.
        issuers: that are trusted.
    """
    tables = routed_tables(settings)
    yield from _mixed_names(tables)
    for name in sorted({it.table.name for it in tables}):
        of_name = [it for it in tables if it.table.name == name]
        yield from _faults_of_name(of_name, sorted(resources), sorted(issuers))


def _mixed_names(tables: Sequence[RoutedTable]) -> Iterator[Fault]:
    """Who asks by a name states what kind is expected: it may not depend on the resource."""
    first: dict[str, RoutedTable] = {}
    for it in tables:
        name = it.table.name
        if _is_mixed_name(first.setdefault(name, it), it):
            yield Fault(
                f"{name!r} is the name of {first[name].label}, too, which gives another kind of "
                "credentials: give one of them another name",
                (*it.at, "name"),
            )


def _is_mixed_name(one: RoutedTable, other: RoutedTable) -> bool:
    return bool(one.table.name) and one.is_bearer != other.is_bearer


def _faults_of_name(
    tables: Sequence[RoutedTable], resources: Sequence[str], issuers: Sequence[str]
) -> Iterator[Fault]:
    others = [it for it in tables if not it.table.resources]
    used: set[Location] = set()
    mixed: set[Location] = set()
    for resource in resources:
        before: list[RoutedTable] = []
        for it in _in_order(tables, resource):
            cover = _cover(it, before, issuers)
            before.append(it)
            is_hidden = cover is not None and cover not in others and it in others
            if it.kind != before[0].kind and not is_hidden:
                if it.at not in mixed and not _is_mixed_name(before[0], it):
                    yield _of_another_kind(it, before[0], resource)
                mixed.add(it.at)
            elif cover is None:
                used.add(it.at)
            elif it not in others:
                yield _covered(it, cover, f" for {resource}")
    if resources:
        yield from _unused(others, used | mixed, issuers)


def _unused(
    others: Sequence[RoutedTable], used: AbstractSet[Location], issuers: Sequence[str]
) -> Iterator[Fault]:
    """Faults of tables that list no resource, and are used for none."""
    for position, it in enumerate(others):
        if it.at in used:
            continue
        cover = _cover(it, others[:position], issuers)
        if cover is None:
            yield Fault("has no effect: each resource has a table of its own. Remove it", it.at)
        else:
            yield _covered(it, cover, "")


def _cover(
    it: RoutedTable, before: Sequence[RoutedTable], issuers: Sequence[str]
) -> RoutedTable | None:
    """The table before this one that applies to a principal that this one is for; None where this
    one applies to some principal.

    Conditions are monotone, so that those with the fewest claims say it for all.
    """
    found: RoutedTable | None = None
    for principal in it.conditions.least_principals(issuers):
        first = _first(before, principal)
        if first is None:
            return None
        found = found or first
    return found


def _first(tables: Sequence[RoutedTable], principal: Principal) -> RoutedTable | None:
    return next((it for it in tables if it.conditions.hold(principal)), None)


def _covered(it: RoutedTable, cover: RoutedTable, where: str) -> Fault:
    return Fault(
        f"never applies{where}: what it is for meets the conditions of {cover.label}, which comes "
        "before it. Move it before that one, or give that one for_issuers, for_roles or for_scopes",
        it.at,
    )


def _of_another_kind(it: RoutedTable, first: RoutedTable, resource: str) -> Fault:
    return Fault(
        f"is for {resource}, as is {first.label}, a table of another kind: a principal for whom "
        "that one has nothing would get these. Give it other resources, or a name",
        it.at,
    )
