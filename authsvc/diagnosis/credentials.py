"""Which credentials a principal would get, by name, and why not. Nothing is requested.

The tables are chosen as ``CredentialRouter`` chooses their brokers, and what a broker checks before
its first request is checked by the functions that it has for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from authsvc.credentials.attribution import claim_tags
from authsvc.credentials.exchange.entra import check_user
from authsvc.credentials.exchange.failures import TABLE as EXCHANGE
from authsvc.credentials.may_act import check_may_act
from authsvc.credentials.policy import SessionGrant
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Principal
from authsvc.net.urls import shown_url
from authsvc.server.config import CredentialSettings, ExchangeSettings, StsSettings
from authsvc.server.config.credential_routes import RoutedTable, routed_tables, tables_for
from authsvc.tokens.claim_paths import ClaimPath


class Issuance(StrEnum):
    """What a request for credentials leads to."""

    ISSUED = "issued"
    """They are in the configuration, or requested from the service that issues them."""

    NONE = "none"
    """The principal has none of this name."""

    REFUSED = "refused"
    """CREDENTIALS_REFUSED, without a request."""

    UNKNOWN_NAME = "unknown_name"
    """ARGUMENT_INVALID: no table has the name for this resource."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request for the credentials of a name leads to.

    Attributes:
        name: the name; empty for those that a resolve answers by default.
        issuance: what it leads to.
        table: the table that decides; empty where none applies.
        text: the origin of the credentials, or why there are none. May quote roles and scopes.
    """

    name: str
    issuance: Issuance
    table: str
    text: str


def expected_credentials(
    settings: CredentialSettings, principal: Principal, resource: str
) -> tuple[Expected, ...]:
    """For each name of the configuration, those without a name first.

    Args:
        settings: ``[credentials]``.
        principal: whose credentials they would be.
        resource: where the token is presented.
    """
    return tuple(_expected(settings, name, principal, resource) for name in sorted(settings.names))


def _expected(
    settings: CredentialSettings, name: str, principal: Principal, resource: str
) -> Expected:
    candidates = tables_for(settings, name, resource)
    if not candidates:
        elsewhere = [it.label for it in routed_tables(settings) if it.table.name == name]
        text = f"{resource} is not in the resources of {', '.join(elsewhere)}"
        return Expected(name, Issuance.UNKNOWN_NAME if name else Issuance.NONE, "", text)
    for it in candidates:
        if it.conditions.hold(principal):
            issuance, text = _issued(it, principal)
            return Expected(name, issuance, it.label, text)
    why = "; ".join(f"{it.label}: {it.conditions.missing(principal)}" for it in candidates)
    return Expected(name, Issuance.NONE, "", why)


def _issued(it: RoutedTable, principal: Principal) -> tuple[Issuance, str]:
    """What the broker of a table does."""
    table = it.table
    try:
        if isinstance(table, StsSettings):
            return _of_sts(table, principal)
        if isinstance(table, ExchangeSettings):
            return _of_exchange(table, principal)
    except AuthError as error:
        return Issuance.REFUSED, str(error)
    return Issuance.ISSUED, f"the access key of role {table.role}"


def _of_sts(table: StsSettings, principal: Principal) -> tuple[Issuance, str]:
    """
    Raises:
        AuthError: CREDENTIALS_REFUSED, see ``StsBroker.issue``.
    """
    from authsvc.credentials.sts import RoleRule  # botocore is slow to import

    rules = [RoleRule(it.arn, it.issuer, it.role, it.max_seconds) for it in table.roles]
    rule = next((it for it in rules if it.matches(principal)), None)
    if rule is None:
        entry = f"issuer {principal.issuer} and a role of the token"
        return Issuance.NONE, f"no entry of credentials.sts.roles has {entry}"
    buckets = None if table.buckets_by == "role" else principal.buckets
    grant = SessionGrant(buckets, principal.permissions, int(principal.expire_time), rule.partition)
    if grant.is_empty:
        return Issuance.NONE, "the token has no bucket, or no permission, that S3 knows"
    if table.use_client_token:
        check_may_act(principal, client_id="", setting="credentials.sts.use_client_token")
    claim_tags(principal, {key: ClaimPath(path).value for key, path in table.claim_tags.items()})
    grant.policy()
    return Issuance.ISSUED, f"AWS role {rule.arn}"


def _of_exchange(table: ExchangeSettings, principal: Principal) -> tuple[Issuance, str]:
    """
    Raises:
        AuthError: CREDENTIALS_REFUSED, see ``ExchangeBroker.issue``.
    """
    if principal.issuer not in table.issuers:
        return Issuance.NONE, f"its issuers do not have {principal.issuer}"
    check_may_act(principal, client_id=table.client_id, setting=f"{EXCHANGE}.client_id")
    if table.profile == "entra-obo":
        check_user(principal)
    where = shown_url(table.endpoint if table.api_server is None else table.api_server.endpoint)
    return Issuance.ISSUED, f"a token of {where} ({table.profile})"
