"""From ``[credentials]`` to a credential broker, and authsvc's own identity at each service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from authsvc.common.config_faults import ConfigFaults
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
        ConfigError: files or URLs cannot be used: one line for each.
    """
    tables = routed_tables(settings.credentials)
    if not tables:
        yield None
        return
    faults, routes = ConfigFaults(), []
    async with AsyncExitStack() as closing:
        for it in tables:
            with faults.gathered():
                counts = of_name(it.table.name)
                routes.append(it.route(await open_table(it, tables, closing, counts)))
        faults.check()
        yield CredentialRouter(routes)


async def open_table(
    it: RoutedTable, tables: Sequence[RoutedTable], closing: AsyncExitStack, counts: CacheCounts
) -> CredentialBroker:
    """The broker of a table.

    Args:
        it: the table.
        tables: all of them. Where there are several of its kind, an error says which one it is.
        closing: closes it.
        counts: counts the lookups and calls of its cache.

    Raises:
        ConfigError: files or a URL cannot be used: one line for each.
    """
    try:
        return await _broker(it.table, closing, counts)
    except ConfigError as error:
        lines = (_renamed(it, tables, line) for line in str(error).splitlines())
        raise ConfigError("\n".join(lines)) from None


def _renamed(it: RoutedTable, tables: Sequence[RoutedTable], fault: str) -> str:
    kind = f"credentials.{it.kind}."
    if not fault.startswith(kind):
        return fault
    return f"{where_of(it, tables)}.{fault.removeprefix(kind)}"


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
    file = settings.session_token_file
    faults = ConfigFaults()
    with faults.gathered():
        key = secret_of(settings.secret_access_key_file, f"{where}.secret_access_key_file")
    with faults.gathered():
        token = secret_of(file, f"{where}.session_token_file") if file else None
    faults.check()
    return AwsCredentials(
        access_key_id=settings.access_key_id,
        secret_access_key=key,
        session_token=token,
        region=settings.region,
        expire_time=0.0,
    )
