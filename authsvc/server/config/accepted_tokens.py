"""``audiences`` and ``client_ids`` of an issuer, by resource."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Protocol

from authsvc.common.setting_rules import Fault, Location

AUDIENCES = "Accepted values of aud, by resource. Without an entry: the resource itself."

CLIENT_IDS = (
    "Clients whose tokens are accepted without aud: a list, for every resource; or a table by "
    "resource. A token that has an aud still needs the right one."
)

UNREGISTERED = (
    "no caller may resolve for it: add it to resources, of a caller or at the top, or remove it"
)


class ByResources(Protocol):
    """A table of an issuer."""

    @property
    def audiences(self) -> dict[str, tuple[str, ...]]:
        """Accepted values of aud, by resource."""
        ...

    @property
    def client_ids(self) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
        """Clients, for any resource; or by resource."""
        ...


def unregistered(table: ByResources, resources: AbstractSet[str], at: Location) -> Iterator[Fault]:
    """Faults of entries for a resource that no caller may resolve for.

    Args:
        table: of the issuer.
        resources: that a caller may resolve for.
        at: where the table is.
    """
    clients = table.client_ids if isinstance(table.client_ids, dict) else {}
    for name, entries in (("audiences", table.audiences), ("client_ids", clients)):
        for resource in entries:
            if resource not in resources:
                yield Fault(UNREGISTERED, (*at, name, resource))


def empty_entries(table: ByResources) -> Iterator[Fault]:
    """Faults of entries that accept no token."""
    for resource, accepted in table.audiences.items():
        if not accepted:
            yield Fault(
                "accepts no aud: name one, or remove it to accept the resource itself",
                ("audiences", resource),
            )
    if isinstance(table.client_ids, dict):
        for resource, clients in table.client_ids.items():
            if not clients:
                yield Fault("names no client: name one, or remove it", ("client_ids", resource))
