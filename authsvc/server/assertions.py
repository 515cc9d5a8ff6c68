"""From ``[assertions]`` to signed assertions."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from authsvc.assertions.jwks_endpoint import JWKS_PATH, jwks_application
from authsvc.assertions.key_ring import KeyRing
from authsvc.assertions.key_set import DAY_SECONDS, KeySetFormatError
from authsvc.assertions.sealing import FileSeal, NoSeal, Seal, SealError
from authsvc.assertions.signer import Assertions
from authsvc.common.settings import ConfigError
from authsvc.common.wsgi_serving import served
from authsvc.domain.errors import AuthError
from authsvc.server.config import AssertionSettings, Settings
from authsvc.server.https import served_context_of
from authsvc.stores.documents import DocumentStore

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_assertions(
    settings: Settings, store: DocumentStore, clock: Callable[[], float]
) -> AsyncIterator[Assertions | None]:
    """The configured assertions, their keys published until the end of the block; None without
    ``[assertions]``.

    Where the store is unavailable, the keys are loaded later, by ``KeyRing.refresh``.

    Raises:
        ConfigError: the stored keys cannot be decrypted, a file cannot be used, or the address
            cannot be listened on.
    """
    table = settings.assertions
    if table is None:
        yield None
        return
    keys = KeyRing(
        store,
        checked_seal(table),
        rotation_seconds=table.rotation_days * DAY_SECONDS,
        clock=clock,
    )
    try:
        await keys.load()
    except AuthError as error:
        log.warning("the keys of assertions cannot be loaded yet: %s", error)
    except (SealError, KeySetFormatError) as error:
        raise ConfigError(f"assertions.encryption_key_file: {error}") from None
    assertions = Assertions(
        keys,
        issuer=table.issuer,
        lifetime_seconds=table.lifetime_seconds,
        clock=clock,
        max_cached=settings.cached_tokens,
    )
    async with _published(keys, table, settings):
        yield assertions


@asynccontextmanager
async def _published(
    keys: KeyRing, table: AssertionSettings, settings: Settings
) -> AsyncIterator[None]:
    """The JWK Set over HTTP, or over HTTPS where other machines can reach it."""
    async with served(
        jwks_application(keys.jwks),
        table.listen,
        name="assertions",
        setting="assertions.listen",
        context=served_context_of(table.listen, settings.tls),
        shares_port=settings.workers > 1,
    ) as address:
        log.info("keys of assertions at %s%s", address, JWKS_PATH, extra={"address": address})
        yield


def checked_seal(table: AssertionSettings) -> Seal:
    """What encrypts the stored keys.

    Raises:
        ConfigError: its file cannot be used.
    """
    if table.encryption_key_file is None:
        return NoSeal()
    seal = FileSeal(table.encryption_key_file)
    try:
        seal.check()
    except SealError as error:
        raise ConfigError(f"assertions.encryption_key_file: {error}") from None
    return seal
