"""The store that the settings name."""

from __future__ import annotations

from authsvc.config import Settings
from authsvc.errors import AuthError
from authsvc.settings import ConfigError
from authsvc.stores import SessionStore
from authsvc.stores.memory import MemoryStore
from authsvc.stores.sqlite import SqliteStore


async def open_store(settings: Settings) -> SessionStore:
    """The store that the settings name.

    Raises:
        ConfigError: its file cannot be used.
    """
    cap = settings.sessions.unauthenticated_cap
    if settings.store.kind == "memory":
        return MemoryStore(unauthenticated_cap=cap)
    try:
        return await SqliteStore.open(settings.store.path, unauthenticated_cap=cap)
    except AuthError as error:
        raise ConfigError(f"store.path: {error.detail}") from None
