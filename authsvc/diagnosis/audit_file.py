"""The files of events, of authsvc and of the adapter: whether they can be written, and for long."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path

from authsvc.audit.private_file import check_file, existing_parent, is_unread_pipe
from authsvc.common.file_faults import file_fault
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.adapter import AdapterSettings
from authsvc.diagnosis.store import LOW_BYTES
from authsvc.server.config import Settings

EMPTY_BYTES = 100 << 20
"""Free space below which to fail."""


_DISK_HANGS = "Its file system hangs: the system's log says why."


def checks(settings: Settings | None, adapter: AdapterSettings | None) -> list[Check]:
    """The checks of the files that these configurations name.

    Args:
        settings: of authsvc; None where they are not known.
        adapter: the adapter's; likewise.
    """
    own = settings.audit_file if settings is not None else None
    of_adapter = adapter.audit.file if adapter is not None else None
    files = (("audit_file", own), ("[audit] file of the adapter", of_adapter))
    found = [
        Check("audit", partial(_look, setting=setting, file=file), _DISK_HANGS, str(file))
        for setting, file in files
        if file is not None
    ]
    if own is not None and of_adapter is not None and own.resolve() == of_adapter.resolve():
        found.append(Check("audit", partial(_share, file=own), ""))
    return found


async def _look(report: Report, *, setting: str, file: Path) -> None:
    # If the disk hangs, only a thread can be abandoned.
    await asyncio.to_thread(_check, report, setting, file)


def _check(report: Report, setting: str, file: Path) -> None:
    file = file.absolute()
    try:
        check_file(file)
    except OSError as error:
        report.fail(
            f"{setting}: {file_fault(file, error)}",
            "Make it, or its folder, the program's own: it is a file, and no link.",
        )
        return
    if is_unread_pipe(file):
        report.warn(
            f"{setting}: nobody reads the pipe {file}",
            "Start its reader: once the pipe is full, its events are lost.",
        )
        return
    free = shutil.disk_usage(existing_parent(file)).free
    text = f"{setting}: {file} can be written; {free / (1 << 30):.1f} GiB are free"
    if free < EMPTY_BYTES:
        report.fail(f"{setting}: {file}: {free >> 20} MiB are free", "Free space: events get lost.")
    elif free < LOW_BYTES:
        report.warn(text, "Free space soon: events get lost on a full disk.")
    else:
        report.ok(text)


async def _share(report: Report, *, file: Path) -> None:
    report.warn(
        f"authsvc and the adapter append to one file, {file}",
        "Give each its own: it is private to one user, and has the format of one of them.",
    )
