"""A real authsvc, in this process, on a Unix socket, over a store of the test's choice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from authsvc.client import AuthClient
from authsvc.server.config import Settings
from authsvc.server.config.store import StoreKind
from authsvc.server.running import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.shared_valkey import fresh_prefix, shared_valkey
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

STORE_KINDS = get_args(StoreKind)
"""Every kind of store: suites over RPC and HTTP run over each."""


@dataclass
class Service:
    """A running authsvc and a client of it."""

    client: AuthClient
    address: str
    settings: Settings


def settings_for(
    folder: Path,
    idp: IdentityProvider,
    store: str | Mapping[str, object] = "memory",
    **changes: object,
) -> Settings:
    """Settings of a service that trusts ``idp``, with all its files under ``folder``.

    ``store`` is the kind of a store of its own, or ``[store]``.
    """
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    for role in ("reader", "analyst"):
        (keys / role).write_text(f"secret-of-{role}")
    values: dict[str, Any] = {
        "listen": f"unix:{folder}/authsvc.sock",
        "resources": (RESOURCE, OTHER_RESOURCE),
        "drain_seconds": 0.0,
        "issuers": [
            {
                "issuer": idp.issuer,
                "algorithms": ["HS256"],
                "secret_file": idp.write_secret(folder),
            }
        ],
        "store": store_settings(folder, store) if isinstance(store, str) else store,
        "credentials": {
            "static": [
                {
                    "role": role,
                    "access_key_id": f"AKIA{role.upper()}",
                    "secret_access_key_file": keys / role,
                }
                for role in ("reader", "analyst")
            ]
        },
        **changes,
    }
    return Settings(**values)


def store_settings(folder: Path, kind: str) -> dict[str, object]:
    """``[store]`` of a store that nobody else uses."""
    if kind == "redis":
        where = {"url": shared_valkey().url, "prefix": fresh_prefix()}
        return {"kind": kind, "timeout_seconds": TIMEOUT_SECONDS, **where}
    return {"kind": kind} | ({"path": folder / "authsvc.db"} if kind == "sqlite" else {})


@asynccontextmanager
async def serving(
    settings: Settings, clock: Callable[[], float], *, streams: bool = True
) -> AsyncIterator[Service]:
    """Run it, and stop it."""
    async with (
        running(settings, clock=clock, monotonic=clock) as address,
        AuthClient(address, deadline_seconds=TIMEOUT_SECONDS, streams=streams) as client,
    ):
        yield Service(client, address, settings)
