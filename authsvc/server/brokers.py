"""From ``[credentials]`` to a credential broker, and authsvc's own identity at each service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from authsvc.common.settings import ConfigError
from authsvc.credentials import CredentialBroker
from authsvc.credentials.aws import Ambient, Identity, KeyFiles, Sts, WebIdentity, sts_client
from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.exchange import ACCESS_TOKEN, JWT, ExchangeBroker, ExchangeRequest
from authsvc.credentials.routing import CredentialRouter
from authsvc.credentials.secrets import read_secret
from authsvc.credentials.static import StaticBroker
from authsvc.credentials.sts import RoleRule, StsBroker
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import AwsCredentials, Secret
from authsvc.server.clients import endpoint_of
from authsvc.server.config import ExchangeSettings, Settings, StaticCredentials, StsSettings
from authsvc.server.egress import proxy_of, trust_of

_TOKEN_TYPES = {"access_token": ACCESS_TOKEN, "jwt": JWT}


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
                broker = await _sts_broker(table, closing, counts)
            else:
                broker = _exchange_broker(table, closing, counts)
            named |= dict.fromkeys(table.resources, broker)
            if not table.resources:
                otherwise = broker
        yield CredentialRouter(named, otherwise) if named else otherwise


async def _sts_broker(
    table: StsSettings, closing: AsyncExitStack, counts: CacheCounts | None
) -> StsBroker:
    identity = _identity(table)
    try:
        client = await closing.enter_async_context(
            sts_client(
                identity,
                region=table.region,
                endpoint_url=table.endpoint_url,
                trust=trust_of(table, "credentials.sts"),
                proxy=proxy_of(table),
            )
        )
    except AuthError as error:
        raise ConfigError(f"credentials.sts.ambient: {error.detail}") from None
    sts = Sts(client, identity, tags=table.session_tags, source_identity=table.source_identity)
    roles = [RoleRule(item.arn, item.issuer, item.role, item.max_seconds) for item in table.roles]
    broker = StsBroker(sts, roles, region=table.region, counts=counts)
    closing.push_async_callback(broker.close)
    return broker


def _identity(table: StsSettings) -> Identity:
    where = "credentials.sts"
    if table.web_identity_token_file is not None:
        _secret(table.web_identity_token_file, f"{where}.web_identity_token_file")
        return WebIdentity(table.web_identity_token_file)
    if table.access_key_id is None or table.secret_access_key_file is None:
        return Ambient()
    _secret(table.secret_access_key_file, f"{where}.secret_access_key_file")
    if table.session_token_file is not None:
        _secret(table.session_token_file, f"{where}.session_token_file")
    return KeyFiles(table.access_key_id, table.secret_access_key_file, table.session_token_file)


def _exchange_broker(
    table: ExchangeSettings, closing: AsyncExitStack, counts: CacheCounts | None
) -> ExchangeBroker:
    broker = ExchangeBroker(
        ExchangeRequest(
            issuers=frozenset(table.issuers),
            audience=table.audience,
            api=table.api,
            scopes=table.scopes,
            subject_token_type=_TOKEN_TYPES[table.subject_token_type],
        ),
        endpoint_of(table, "credentials.exchange"),
        counts,
    )
    closing.push_async_callback(broker.close)
    return broker


def _static(settings: StaticCredentials) -> AwsCredentials:
    where = f"credentials.static[{settings.role}]"
    token = settings.session_token_file
    return AwsCredentials(
        access_key_id=settings.access_key_id,
        secret_access_key=_secret(
            settings.secret_access_key_file, f"{where}.secret_access_key_file"
        ),
        session_token=_secret(token, f"{where}.session_token_file") if token else None,
        region=settings.region,
        expire_time=0.0,
    )


def _secret(path: Path, setting: str) -> Secret:
    try:
        return read_secret(path)
    except AuthError as error:
        raise ConfigError(f"{setting}: {error.detail}") from None
