"""From ``[[credentials.sts]]`` to a broker. It is imported only where there is such a table."""

from __future__ import annotations

from contextlib import AsyncExitStack

from authsvc.common.config_faults import ConfigFaults
from authsvc.common.settings import ConfigError
from authsvc.credentials.aws import (
    Ambient,
    ClientToken,
    Identity,
    KeyFiles,
    Sts,
    WebIdentity,
    sts_client,
)
from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.sts import RoleRule, StsBroker
from authsvc.domain.errors import AuthError
from authsvc.server.config import StsSettings
from authsvc.server.egress import proxy_of, trust_of
from authsvc.server.secret_files import secret_of
from authsvc.tokens.claim_paths import ClaimPath


async def open_sts_broker(
    table: StsSettings, closing: AsyncExitStack, counts: CacheCounts | None
) -> StsBroker:
    """The broker of a table.

    Args:
        table: ``[[credentials.sts]]``.
        closing: closes it.
        counts: counts the lookups and calls of its cache.

    Raises:
        ConfigError: files cannot be used, one line for each, or the machine has no credentials.
    """
    faults = ConfigFaults()
    with faults.gathered():
        identity = _identity(table)
    with faults.gathered():
        trust = trust_of(table, "credentials.sts")
    faults.check()
    try:
        client = await closing.enter_async_context(
            sts_client(
                identity,
                region=table.region,
                endpoint_url=table.endpoint_url,
                trust=trust,
                proxy=proxy_of(table),
            )
        )
    except AuthError as error:
        raise ConfigError(f"credentials.sts.ambient: {error.detail}") from None
    sts = Sts(client, identity, tags=table.session_tags, source_identity=table.source_identity)
    roles = [RoleRule(item.arn, item.issuer, item.role, item.max_seconds) for item in table.roles]
    tags = {key: ClaimPath(path).value for key, path in table.claim_tags.items()}
    broker = StsBroker(
        sts,
        roles,
        region=table.region,
        counts=counts,
        claims=tags,
        role_confines=table.buckets_by == "role",
    )
    closing.push_async_callback(broker.close)
    return broker


def _identity(table: StsSettings) -> Identity:
    where = "credentials.sts"
    if table.use_client_token:
        return ClientToken()
    if table.web_identity_token_file is not None:
        secret_of(table.web_identity_token_file, f"{where}.web_identity_token_file")
        return WebIdentity(table.web_identity_token_file)
    if table.access_key_id is None or table.secret_access_key_file is None:
        return Ambient()
    faults = ConfigFaults()
    with faults.gathered():
        secret_of(table.secret_access_key_file, f"{where}.secret_access_key_file")
    with faults.gathered():
        if table.session_token_file is not None:
            secret_of(table.session_token_file, f"{where}.session_token_file")
    faults.check()
    return KeyFiles(table.access_key_id, table.secret_access_key_file, table.session_token_file)
