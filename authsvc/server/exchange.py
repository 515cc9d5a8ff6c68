"""From ``[[credentials.exchange]]`` to a broker."""

from __future__ import annotations

from contextlib import AsyncExitStack

from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.exchange import ExchangeBroker
from authsvc.credentials.exchange.answers import ACCESS_TOKEN, JWT
from authsvc.credentials.exchange.failures import TABLE
from authsvc.credentials.exchange.profile import Leg, Profile
from authsvc.credentials.exchange.rfc8693 import TokenExchange
from authsvc.server.clients import endpoint_of
from authsvc.server.config import ExchangeSettings

_TOKEN_TYPES = {"access_token": ACCESS_TOKEN, "jwt": JWT}


def exchange_broker(
    table: ExchangeSettings, closing: AsyncExitStack, counts: CacheCounts | None
) -> ExchangeBroker:
    """The broker of a table.

    Args:
        table: ``[[credentials.exchange]]``.
        closing: closes it.
        counts: counts the lookups and calls of its cache.

    Raises:
        ConfigError: a file cannot be used.
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
    return TokenExchange(
        Leg(endpoint_of(table, TABLE)),
        audience=table.audience,
        api=table.api,
        scopes=table.scopes,
        subject_token_type=_TOKEN_TYPES[table.subject_token_type],
    )
