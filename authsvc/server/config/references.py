"""Names of one table in another: resources that a caller may resolve for, and trusted issuers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from authsvc.common.formats import spelled_resource
from authsvc.common.setting_rules import Fault
from authsvc.server.config.accepted_tokens import UNREGISTERED
from authsvc.server.config.credential_routes import RoutedTable, routed_tables, routing_faults
from authsvc.server.config.credentials import CredentialSettings, StsSettings
from authsvc.server.config.development import DevelopmentSettings
from authsvc.server.config.exchange import ExchangeSettings
from authsvc.server.config.issuers import IssuerSettings

_NO_ISSUER = "is not one of the issuers: write its [[issuers]] table, or remove it"


def credential_faults(
    tables: CredentialSettings, resources: AbstractSet[str], issuers: AbstractSet[str]
) -> Iterator[Fault]:
    """Faults of ``[credentials]``: what it names that no other table has.

    A misspelt name would only show as credentials that are never issued.
    """
    for it in routed_tables(tables):
        if unknown := sorted({*it.table.resources} - resources):
            yield Fault(f"{', '.join(unknown)}: {UNREGISTERED}", (*it.at, "resources"))
        yield from _issuer_faults(it, issuers)
    yield from routing_faults(tables, resources, issuers)


def _issuer_faults(it: RoutedTable, issuers: AbstractSet[str]) -> Iterator[Fault]:
    table = it.table
    if unknown := sorted({*table.for_issuers} - issuers):
        yield Fault(f"{', '.join(unknown)}: {_NO_ISSUER}", (*it.at, "for_issuers"))
    if isinstance(table, ExchangeSettings):
        if unknown := sorted({*table.issuers} - issuers):
            yield Fault(f"{', '.join(unknown)}: {_NO_ISSUER}", (*it.at, "issuers"))
        yield from _without_credentials(it, issuers, {*table.issuers}, "issuers")
    if isinstance(table, StsSettings):
        for position, role in enumerate(table.roles):
            if role.issuer not in issuers:
                yield Fault(_NO_ISSUER, (*it.at, "roles", position, "issuer"))
        yield from _without_credentials(it, issuers, {it.issuer for it in table.roles}, "roles")


def _without_credentials(
    it: RoutedTable, issuers: AbstractSet[str], served: AbstractSet[str], setting: str
) -> Iterator[Fault]:
    """A fault where the table applies to issuers whose principals get nothing of it."""
    if unserved := sorted(({*it.table.for_issuers} & issuers) - served):
        yield Fault(
            f"{', '.join(unserved)}: gets no credentials of this table: add it to {setting}, or "
            "remove it",
            (*it.at, "for_issuers"),
        )


def development_faults(
    table: DevelopmentSettings, issuers: Iterable[IssuerSettings], resources: AbstractSet[str]
) -> Iterator[Fault]:
    """Faults of ``[development]``: tokens that could not be minted, or would be rejected."""
    issuer = next((item for item in issuers if item.issuer == table.issuer), None)
    if issuer is None or issuer.secret_file is None:
        yield Fault(
            "is not the issuer of an [[issuers]] table with a secret_file: write its table, or "
            "name another",
            ("development", "issuer"),
        )
        return
    accepted = {
        spelled_resource(name)
        for resource in resources
        for name in issuer.audiences.get(resource, (resource,))
    }
    if table.audience not in accepted:
        yield Fault(
            f"tokens with it are rejected, as {table.issuer} accepts it for no resource: name one "
            "of resources, or set audiences of the issuer",
            ("development", "audience"),
        )
