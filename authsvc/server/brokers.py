"""From ``[credentials]`` to a credential broker, and authsvc's own identity at each service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from authsvc.credentials import CredentialBroker
from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.routing import CredentialRouter
from authsvc.credentials.static import StaticBroker
from authsvc.domain.resolution import AwsCredentials
from authsvc.server.config import ExchangeSettings, Settings, StaticCredentials, StsSettings
from authsvc.server.exchange import exchange_broker
from authsvc.server.secret_files import secret_of


@asynccontextmanager
async def open_broker(
    settings: Settings, counts: CacheCounts | None = None
) -> AsyncIterator[CredentialBroker | None]:
    """The configured broker, closed at the end of the block; None without ``[credentials]``.

    Args:
        settings: of authsvc.
        counts: counts the lookups and calls of the brokers' caches.

    Raises:
        ConfigError: a file or URL cannot be used.
    """
    tables = settings.credentials
    named: dict[str, CredentialBroker] = {}
    otherwise: CredentialBroker | None = None
    if tables.static:
        otherwise = StaticBroker({item.role: _static(item) for item in tables.static})
    async with AsyncExitStack() as closing:
        described: list[StsSettings | ExchangeSettings] = [*tables.sts, *tables.exchange]
        for table in described:
            broker: CredentialBroker
            if isinstance(table, StsSettings):
                # aiobotocore takes a third of a second and 25 MB, for this alone.
                from authsvc.server.sts import open_sts_broker

                broker = await open_sts_broker(table, closing, counts)
            else:
                broker = exchange_broker(table, closing, counts)
            named |= dict.fromkeys(table.resources, broker)
            if not table.resources:
                otherwise = broker
        yield CredentialRouter(named, otherwise) if named else otherwise


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
