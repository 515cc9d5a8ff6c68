"""From ``[[credentials.exchange]]`` to a broker."""

from __future__ import annotations

from contextlib import AsyncExitStack

from authsvc.common.config_faults import ConfigFaults
from authsvc.common.settings import ConfigError
from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.exchange import ExchangeBroker
from authsvc.credentials.exchange.answers import ACCESS_TOKEN, ID_TOKEN, JWT
from authsvc.credentials.exchange.entra import OnBehalfOf, error_details
from authsvc.credentials.exchange.failures import TABLE
from authsvc.credentials.exchange.gcp import IAM_SCOPE, ServiceAccount, WorkloadIdentity
from authsvc.credentials.exchange.id_jag import IdentityAssertion
from authsvc.credentials.exchange.jwt_bearer import JwtBearer
from authsvc.credentials.exchange.profile import Leg, Profile
from authsvc.credentials.exchange.rfc8693 import ACTOR_SETTING, Actor, TokenExchange
from authsvc.server.clients import endpoint_of
from authsvc.server.config import ApiServerSettings, ExchangeSettings
from authsvc.server.egress import fetcher_of
from authsvc.server.secret_files import secret_of

API_SERVER = f"{TABLE}.api_server"
"""The table of the second endpoint of id-jag."""

_TOKEN_TYPES = {None: ACCESS_TOKEN, "access_token": ACCESS_TOKEN, "jwt": JWT, "id_token": ID_TOKEN}


def exchange_broker(
    table: ExchangeSettings, closing: AsyncExitStack, counts: CacheCounts | None
) -> ExchangeBroker:
    """The broker of a table.

    Args:
        table: ``[[credentials.exchange]]``.
        closing: closes it.
        counts: counts the lookups and calls of its cache.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    broker = ExchangeBroker(
        _profile(table),
        issuers=frozenset(table.issuers),
        client_id=table.client_id,
        counts=counts,
    )
    closing.push_async_callback(broker.close)
    return broker


def _profile(table: ExchangeSettings) -> Profile:
    faults = ConfigFaults()
    with faults.gathered():
        endpoint = endpoint_of(table, TABLE)
    with faults.gathered():
        actor = _actor(table)
    with faults.gathered():
        if table.profile == "id-jag":
            server = _api_server(table)
            of_server = Leg(endpoint_of(server, API_SERVER), API_SERVER)
    faults.check()
    match table.profile:
        case "rfc8693":
            return TokenExchange(
                Leg(endpoint),
                audience=table.audience,
                api=table.api,
                scopes=table.scopes,
                subject_token_type=_TOKEN_TYPES[table.subject_token_type],
                requested_token_type=_TOKEN_TYPES[table.requested_token_type],
                actor=actor,
            )
        case "jwt-bearer":
            return JwtBearer(Leg(endpoint), api=table.api, scopes=table.scopes)
        case "entra-obo":
            return OnBehalfOf(Leg(endpoint, details=error_details), table.scopes)
        case "id-jag":
            return IdentityAssertion(
                Leg(endpoint),
                of_server,
                audience=table.audience,
                api=table.api,
                scopes=table.scopes,
                subject_token_type=_TOKEN_TYPES[table.subject_token_type],
                requested_scopes=server.scopes,
            )
        case "gcp-sts":
            return _workload_identity(table, Leg(endpoint))


def _workload_identity(table: ExchangeSettings, leg: Leg) -> WorkloadIdentity:
    """
    Raises:
        ConfigError: ``ca_file`` cannot be used.
    """
    account = None
    if table.service_account:
        account = ServiceAccount(
            table.service_account,
            table.service_account_endpoint,
            fetcher_of(table, TABLE),
            table.scopes,
        )
    exchange = TokenExchange(
        leg,
        audience=table.audience,
        scopes=table.scopes if account is None else (IAM_SCOPE,),
        subject_token_type=_TOKEN_TYPES[table.subject_token_type or "jwt"],
    )
    return WorkloadIdentity(exchange, account)


def _actor(table: ExchangeSettings) -> Actor | None:
    """
    Raises:
        ConfigError: the file cannot be used.
    """
    if table.actor_token_file is None:
        return None
    secret_of(table.actor_token_file, ACTOR_SETTING)
    return Actor(table.actor_token_file, _TOKEN_TYPES[table.actor_token_type])


def _api_server(table: ExchangeSettings) -> ApiServerSettings:
    """
    Raises:
        ConfigError: there is none.
    """
    if table.api_server is None:
        raise ConfigError(f"{API_SERVER} is needed by id-jag")
    return table.api_server
