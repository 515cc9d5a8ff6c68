"""Names of one table in another: resources that a caller may resolve for, and trusted issuers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from authsvc.common.formats import spelled_resource
from authsvc.common.setting_rules import Fault, Location
from authsvc.server.config.accepted_tokens import UNREGISTERED
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
    named: set[str] = set()
    for at, table in _with_locations(tables):
        named |= {*table.resources}
        if unknown := sorted({*table.resources} - resources):
            yield Fault(f"{', '.join(unknown)}: {UNREGISTERED}", (*at, "resources"))
        yield from _issuer_faults(table, issuers, at)
    if resources <= named:
        yield from _never_chosen(tables)


def _with_locations(
    tables: CredentialSettings,
) -> Iterator[tuple[Location, StsSettings | ExchangeSettings]]:
    for position, sts in enumerate(tables.sts):
        yield ("credentials", "sts", position), sts
    for position, exchange in enumerate(tables.exchange):
        yield ("credentials", "exchange", position), exchange


def _issuer_faults(
    table: StsSettings | ExchangeSettings, issuers: AbstractSet[str], at: Location
) -> Iterator[Fault]:
    if isinstance(table, ExchangeSettings):
        if unknown := sorted({*table.issuers} - issuers):
            yield Fault(f"{', '.join(unknown)}: {_NO_ISSUER}", (*at, "issuers"))
        return
    for position, role in enumerate(table.roles):
        if role.issuer not in issuers:
            yield Fault(_NO_ISSUER, (*at, "roles", position, "issuer"))


def _never_chosen(tables: CredentialSettings) -> Iterator[Fault]:
    reason = "has no effect: each resource has a table of its own. Remove it"
    if tables.static:
        yield Fault(reason, ("credentials", "static"))
    for at, table in _with_locations(tables):
        if not table.resources:
            yield Fault(reason, at)


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
