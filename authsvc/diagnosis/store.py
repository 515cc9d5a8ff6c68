"""The store: whether it is reachable and writable, and whether it is durable."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from authsvc.audit.private_file import existing_parent
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.space import LOW_BYTES, size, try_write
from authsvc.server.config import Settings
from authsvc.stores.redis.space import by_node, memory_of, persistence_faults
from authsvc.stores.sqlite.schema import connect_read_only

LOW_FRACTION = 0.1
"""Free space, as a part of the file system, below which to warn; as below ``LOW_BYTES``."""

FULL_FRACTION = 0.85
"""Fraction of the server's memory in use above which to warn."""

_RELATIVE = (
    "store.path is relative to the working directory, which may be another one for `authsvc "
    "serve`: write an absolute path."
)

_WRITE_REMEDIES = {
    errno.ENOSPC: "Free space: nothing can be created or revoked, and known sessions go on.",
    errno.EDQUOT: "Raise the quota of authsvc's user, or free space.",
    errno.EROFS: "Mount it writable; after a fault of the disk, look at the system's log first.",
    errno.EACCES: "chown it to authsvc's user.",
    errno.EPERM: "chown it to authsvc's user.",
}

_FILE_REMEDIES = {
    sqlite3.SQLITE_BUSY: "Another process holds its write lock: find it by `fuser -v`, and end it.",
    sqlite3.SQLITE_READONLY: "chown it to authsvc's user, or mount its file system writable.",
    sqlite3.SQLITE_CANTOPEN: "Allow authsvc's user to read and write it and its folder.",
    sqlite3.SQLITE_FULL: "Free space: nothing can be created or revoked.",
}


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
            look = partial(_look_at_sqlite, path=store.path)
            return [Check("store", look, remedy, str(where))]
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
        _check_missing_folder(report, folder, _RELATIVE if is_relative else "")
        return
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        report.fail(f"{path} is not writable", f"chown it, and {folder}, to authsvc's user.")
        return
    if not _check_space(report, folder):
        return
    if path.exists():
        _open(report, path)
    elif is_relative:
        report.warn(f"{path} does not exist, and can be created", _RELATIVE)
    else:
        report.ok(f"{path} does not exist, and can be created")


def _check_missing_folder(report: Report, folder: Path, relative: str) -> None:
    above = existing_parent(folder)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        report.fail(
            f"{folder} does not exist, and cannot be created in {above}",
            "Create it, and chown it to authsvc's user.",
        )
        return
    remedy = f"`authsvc serve` creates it, in {above}. {relative}"
    report.warn(f"{folder} does not exist", remedy.strip())


def _check_space(report: Report, folder: Path) -> bool:
    """Whether the folder's file system takes some pages more; and how much more."""
    usage = shutil.disk_usage(folder)
    text = f"{size(usage.free)} of {size(usage.total)} are free in {folder}"
    try:
        try_write(folder)
    except OSError as error:
        remedy = _WRITE_REMEDIES.get(error.errno or 0, "Mend the file system.")
        report.fail(f"{folder} takes no writes: {error.strerror}; {text}", remedy)
        return False
    if usage.free < max(LOW_BYTES, LOW_FRACTION * usage.total):
        report.warn(text, "Free space soon: docs/runbook.md, a store that is nearly full.")
    else:
        report.ok(text)
    return True


def _open(report: Report, path: Path) -> None:
    try:
        with closing(connect_read_only(path, timeout_seconds=1.0)) as database:
            (mode,) = database.execute("PRAGMA journal_mode").fetchone()
            (count,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _try_lock(path)
    except sqlite3.Error as error:
        # The first byte of an extended code is the primary one.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        remedy = _FILE_REMEDIES.get(code, "Restore a backup; see docs/operations.md.")
        report.fail(f"{path}: {error}", remedy)
        return
    if mode != "wal":
        report.warn(f"{path}: journal_mode is {mode}", "`authsvc serve` sets it to WAL.")
        return
    report.ok(f"{path} is readable and writable ({count} tables and indexes, WAL)")


def _try_lock(path: Path) -> None:
    """Take the lock that each write takes, begin a write, and take it back: nothing is written.

    Raises:
        sqlite3.Error: the lock cannot be taken within a second, or the file is read-only.
    """
    uri = f"{path.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # which a file that is read-only permits, too
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version}")
        database.execute("ROLLBACK")


async def _look_at_redis(report: Report, *, settings: Settings) -> None:
    # Imported here: the client is slow to import.
    from authsvc.stores.redis.link import Link

    link = Link(settings.store.redis_server())
    try:
        for node, info in by_node(await link.ask("INFO")).items():
            check_node(report, node, info)
    finally:
        await link.close()


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
    for fault in persistence_faults(info):
        report.fail(f"{node}: {fault}", "Free space on its disk; its own log has the cause.")
    if info.get("role") != "master":
        report.fail(f"{node}: is a replica, which takes no writes", "Name the primary in [store].")
    _check_memory(report, node, info)


def _check_memory(report: Report, node: str, info: Mapping[str, Any]) -> None:
    used, most = memory_of(info)
    if not most:
        report.warn(
            f"{node}: maxmemory is not set: the system may kill it when memory is short",
            "Set maxmemory to a limit that the machine can provide.",
        )
    elif used > FULL_FRACTION * most:
        report.warn(f"{node}: {used / most:.0%} of its memory is used", "Raise maxmemory.")
    else:
        report.ok(f"{node}: {used / most:.0%} of its memory is used")
