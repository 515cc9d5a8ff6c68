"""From ``[store]`` to a session store."""

from __future__ import annotations

from typing import assert_never

from authsvc.common.file_faults import relative_to
from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError
from authsvc.server.config import Settings
from authsvc.stores import OnRemoved, SessionStore, ignore_removed
from authsvc.stores.memory import MemoryStore
from authsvc.stores.sqlite import SqliteStore


async def open_store(settings: Settings, on_removed: OnRemoved = ignore_removed) -> SessionStore:
    """The configured store.

    Args:
        settings: of authsvc.
        on_removed: is called with each record that this process removes.

    Raises:
        ConfigError: its file cannot be used, or its server's configuration is unsafe.
    """
    store = settings.store
    match store.kind:
        case "memory":
            cap = settings.sessions.unauthenticated_cap
            return MemoryStore(
                unauthenticated_cap=cap, events_kept=store.events_kept, on_removed=on_removed
            )
        case "redis":
            return await _open_redis(settings, on_removed)
        case "sqlite":
            return await _open_sqlite(settings, on_removed)
        case _:
            assert_never(store.kind)


async def _open_sqlite(settings: Settings, on_removed: OnRemoved) -> SessionStore:
    store = settings.store
    try:
        return await SqliteStore.open(
            store.path,
            unauthenticated_cap=settings.sessions.unauthenticated_cap,
            events_kept=store.events_kept,
            cached_sessions=store.cached_sessions,
            on_removed=on_removed,
        )
    except AuthError as error:
        raise ConfigError(f"store.path: {error.detail}") from None


async def _open_redis(settings: Settings, on_removed: OnRemoved) -> SessionStore:
    # Imported here: redis takes 50 ms to import, and the other stores do not need it.
    from authsvc.stores.redis.store import RedisStore

    store = settings.store
    for setting in ("password_file", "ca_file", "certificate_file", "key_file"):
        path = getattr(store, setting)
        if path is not None and not path.is_file():
            raise ConfigError(f"store.{setting}: {path}: there is no such file{relative_to(path)}")
    try:
        return await RedisStore.open(
            store.redis_server(),
            prefix=store.prefix,
            unauthenticated_cap=settings.sessions.unauthenticated_cap,
            events_kept=store.events_kept,
            cached_sessions=store.cached_sessions,
            bound_seconds=store.max_staleness_seconds,
            on_removed=on_removed,
        )
    except ValueError as error:
        raise ConfigError(f"store: {error}") from None
