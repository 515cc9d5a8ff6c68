"""``authsvc assertions``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings
from authsvc.cli.failing import Failure, errors_explained
from authsvc.cli.output import as_json_option, print_json, print_line

if TYPE_CHECKING:
    from authsvc.server.config import AssertionSettings, Settings


@click.group()
def command() -> None:
    """The keys that sign assertions, the JWTs that tell an upstream who is asking."""


@command.command(
    epilog="Example: authsvc assertions rotate --config authsvc.toml. Run it if a key may have "
    "leaked, or if encryption_key_file is lost: docs/runbook.md has the steps."
)
@config_option
@as_json_option
def rotate(config: Path | None, as_json: bool) -> None:
    """Withdraw all keys in the store, and have a new one sign at once.

    Replicas use it within 10 seconds. A verifier that does not know it rejects assertions until it
    fetches the JWK Set again, after 5 minutes at most.
    """
    settings = load_settings(config)
    table = settings.assertions
    if table is None:
        raise Failure("assertions: is not set: there are no keys")
    if table.encryption_key_file is None:
        raise Failure(
            "store.kind: is 'memory': authsvc keeps the keys in its process, and makes new ones at "
            "a restart"
        )
    with errors_explained("[store]"), config_errors():
        kid = asyncio.run(_rotated(settings, table))
    if as_json:
        print_json({"key_id": kid})
    else:
        print_line(f"Key {kid} signs from now on. All others are withdrawn.")


async def _rotated(settings: Settings, table: AssertionSettings) -> str:
    """The ``kid`` of the new key."""
    from authsvc.assertions.key_ring import replace_keys
    from authsvc.server.assertions import checked_seal
    from authsvc.server.stores import open_store

    seal = checked_seal(table)
    store = await open_store(settings)
    try:
        key = await replace_keys(store, seal, time.time())
        return key.kid
    finally:
        await store.close()
