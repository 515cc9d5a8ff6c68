"""From ``[assertions]`` to signed assertions."""

from __future__ import annotations

import logging
from collections.abc import Callable

from authsvc.assertions.key_ring import KeyRing
from authsvc.assertions.key_set import DAY_SECONDS, KeySetFormatError
from authsvc.assertions.sealing import FileSeal, NoSeal, Seal, SealError
from authsvc.assertions.signer import Assertions
from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError
from authsvc.server.config import AssertionSettings, Settings
from authsvc.stores.documents import DocumentStore

log = logging.getLogger(__name__)


async def open_assertions(
    settings: Settings, store: DocumentStore, clock: Callable[[], float]
) -> tuple[KeyRing, Assertions] | None:
    """The configured assertions and their keys; None without ``[assertions]``.

    Where the store is unavailable, the keys are loaded later, by ``KeyRing.refresh``.

    Raises:
        ConfigError: the stored keys cannot be decrypted, or the file for it cannot be used.
    """
    table = settings.assertions
    if table is None:
        return None
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
    signer = Assertions(
        keys,
        issuer=table.issuer,
        lifetime_seconds=table.lifetime_seconds,
        clock=clock,
        max_cached=settings.cached_tokens,
    )
    return keys, signer


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
