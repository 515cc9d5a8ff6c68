"""From ``[credentials]`` to a credential broker, and authsvc's own identity at each service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from authsvc.common.settings import ConfigError
from authsvc.credentials import CredentialBroker
from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.routing import CredentialRouter
from authsvc.credentials.static import StaticBroker
from authsvc.domain.resolution import AwsCredentials
from authsvc.server.config import ExchangeSettings, Settings, StaticCredentials
from authsvc.server.config.credential_routes import RoutedTable, routed_tables, where_of
from authsvc.server.config.credentials import CredentialTable
from authsvc.server.exchange import exchange_broker
from authsvc.server.secret_files import secret_of


@asynccontextmanager
async def open_broker(
    settings: Settings, of_name: Callable[[str], CacheCounts] = CacheCounts
) -> AsyncIterator[CredentialBroker | None]:
    """The configured broker, closed at the end of the block; None without ``[credentials]``.

    Args:
        settings: of authsvc.
        of_name: gives what counts the lookups and calls of the caches of a name.

    Raises:
        ConfigError: a file or URL cannot be used.
    """
    tables = routed_tables(settings.credentials)
    if not tables:
        yield None
        return
    async with AsyncExitStack() as closing:
        yield CredentialRouter(
            [it.route(await _named(it, tables, closing, of_name(it.table.name))) for it in tables]
        )


async def _named(
    it: RoutedTable, tables: Sequence[RoutedTable], closing: AsyncExitStack, counts: CacheCounts
) -> CredentialBroker:
    """The broker of a table. Where there are several of its kind, an error says which one it is."""
    try:
        return await _broker(it.table, closing, counts)
    except ConfigError as error:
        kind, where = f"credentials.{it.kind}.", where_of(it, tables)
        if not str(error).startswith(kind):
            raise
        raise ConfigError(f"{where}.{str(error).removeprefix(kind)}") from None


async def _broker(
    table: CredentialTable, closing: AsyncExitStack, counts: CacheCounts
) -> CredentialBroker:
    if isinstance(table, StaticCredentials):
        return StaticBroker(_static(table))
    if isinstance(table, ExchangeSettings):
        return exchange_broker(table, closing, counts)
    # aiobotocore takes a third of a second and 25 MB, for this alone.
    from authsvc.server.sts import open_sts_broker

    return await open_sts_broker(table, closing, counts)


def _static(settings: StaticCredentials) -> AwsCredentials:
    where = f"credentials.static[{settings.role}]"
    token = settings.session_token_file
    return AwsCredentials(
        access_key_id=settings.access_key_id,
        secret_access_key=secret_of(
            settings.secret_access_key_file, f"{where}.secret_access_key_file"
        ),
        session_token=secret_of(token, f"{where}.session_token_file") if token else None,
        region=settings.region,
        expire_time=0.0,
    )
