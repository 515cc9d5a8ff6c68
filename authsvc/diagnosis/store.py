"""The store: whether it is reachable and writable, and whether it is durable."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from authsvc.diagnosis import Check, Report
from authsvc.server.config import Settings
from authsvc.stores.sqlite.schema import connect_read_only

LOW_BYTES = 1 << 30
EMPTY_BYTES = 100 << 20
"""Free space below which to warn, and below which to fail."""

FULL_FRACTION = 0.8
"""Fraction of the server's memory in use above which to warn."""

_RELATIVE = (
    "store.path is relative to the working directory, which may be another one for `authsvc "
    "serve`: write an absolute path."
)


def checks(settings: Settings) -> list[Check]:
    """The checks of the configured store."""
    store = settings.store
    match store.kind:
        case "redis":
            look = partial(_look_at_redis, settings=settings)
            remedy = (
                "Start the server, or correct [store]: url or nodes, username, password_file, "
                "ca_file."
            )
            return [Check("store", look, remedy)]
        case "sqlite":
            where = store.path.absolute()
            remedy = f"Allow authsvc's user to read and write {where} and its folder."
            return [Check("store", partial(_look_at_sqlite, path=store.path), remedy)]
        case "memory":
            return [Check("store", _look_at_memory, "")]
        case _:
            assert_never(store.kind)


async def _look_at_memory(report: Report) -> None:
    report.warn(
        'kind = "memory": sessions and revocations are lost when the process ends',
        'Set kind = "sqlite", or "redis" for several machines.',
    )


async def _look_at_sqlite(report: Report, *, path: Path) -> None:
    # If the disk hangs, only a thread can be abandoned.
    await asyncio.to_thread(_check_file, report, path)


def _check_file(report: Report, path: Path) -> None:
    is_relative, path = not path.is_absolute(), path.absolute()
    folder = path.parent
    if not folder.is_dir():
        remedy = "`authsvc serve` creates it if it is permitted to."
        report.warn(f"{folder} does not exist", f"{remedy} {_RELATIVE}" if is_relative else remedy)
        return
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        report.fail(f"{path} is not writable", f"chown it, and {folder}, to authsvc's user.")
        return
    if path.exists():
        _open(report, path)
    elif is_relative:
        report.warn(f"{path} does not exist, and can be created", _RELATIVE)
    else:
        report.ok(f"{path} does not exist, and can be created")
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB are free in {folder}"
    if free < EMPTY_BYTES:
        report.fail(text, "Free space: requests that cannot be stored are rejected.")
    elif free < LOW_BYTES:
        report.warn(text, "Free space soon.")
    else:
        report.ok(text)


def _open(report: Report, path: Path) -> None:
    try:
        with closing(connect_read_only(path, timeout_seconds=1.0)) as database:
            (mode,) = database.execute("PRAGMA journal_mode").fetchone()
            (count,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        report.fail(f"{path}: {error}", "Restore a backup; see docs/operations.md.")
        return
    if mode != "wal":
        report.warn(f"{path}: journal_mode is {mode}", "`authsvc serve` sets it to WAL.")
        return
    report.ok(f"{path} is readable and writable ({count} tables and indexes, WAL)")


async def _look_at_redis(report: Report, *, settings: Settings) -> None:
    # Imported here: the client is slow to import.
    from authsvc.stores.redis.link import Link

    link = Link(settings.store.redis_server())
    try:
        for node, info in _by_node(await link.ask("INFO")).items():
            check_node(report, node, info)
    finally:
        await link.close()


def _by_node(info: Any) -> Mapping[str, Mapping[str, Any]]:  # noqa: ANN401 - the client's
    """INFO by node: a cluster answers by node, a single server without."""
    if "redis_version" in info:
        return {"the server": info}
    return {str(node): of_node for node, of_node in info.items()}


def check_node(report: Report, node: str, info: Mapping[str, Any]) -> None:
    """Check a server by its answer to INFO."""
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        report.ok(f"{node}: maxmemory-policy is noeviction")
    else:
        report.fail(
            f"{node}: maxmemory-policy is {policy}: a full server would evict revocations",
            "Set maxmemory-policy noeviction; authsvc refuses to serve otherwise.",
        )
    if info.get("aof_enabled"):
        report.ok(f"{node}: appendonly is on")
    else:
        report.warn(
            f"{node}: appendonly is off: a restart loses sessions and revocations",
            "Set appendonly yes, and appendfsync everysec or always.",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        report.fail(f"{node}: its last write to disk failed", "Free space on its disk.")
    if info.get("role") != "master":
        report.fail(f"{node}: is a replica, which takes no writes", "Name the primary in [store].")
    _check_memory(report, node, info)


def _check_memory(report: Report, node: str, info: Mapping[str, Any]) -> None:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        report.warn(
            f"{node}: maxmemory is not set: the system may kill it when memory is short",
            "Set maxmemory to a limit that the machine can provide.",
        )
    elif used > FULL_FRACTION * most:
        report.warn(f"{node}: {used / most:.0%} of its memory is used", "Raise maxmemory.")
    else:
        report.ok(f"{node}: {used / most:.0%} of its memory is used")
