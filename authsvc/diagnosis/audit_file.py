"""The files of events, of authsvc and of the adapter: whether they can be written, and for long."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from functools import partial
from pathlib import Path

from authsvc.audit.private_file import check_file, existing_parent, is_unread_pipe
from authsvc.common.file_faults import file_fault
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.adapter import AdapterSettings
from authsvc.diagnosis.space import LOW_BYTES, size, try_write
from authsvc.server.config import Settings

_WRITE_REMEDIES = {
    errno.ENOSPC: "Free space: events get lost.",
    errno.EDQUOT: "Raise the quota of the program's user, or free space: events get lost.",
}


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
    if file.exists() and not file.is_file():
        report.ok(f"{setting}: {file} can be written")
        return
    _check_space(report, setting, file)


def _check_space(report: Report, setting: str, file: Path) -> None:
    """Whether the file system takes some pages more; and how much more. The file is not changed."""
    folder = existing_parent(file)
    free = shutil.disk_usage(file if file.exists() else folder).free
    try:
        if _tells_of(folder, file):
            try_write(folder)
        elif not free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        remedy = _WRITE_REMEDIES.get(error.errno or 0, "Mend the file system: events get lost.")
        text = f"takes no writes: {error.strerror}; {size(free)} are free"
        report.fail(f"{setting}: the file system of {file} {text}", remedy)
        return
    text = f"{setting}: {file} can be written; {size(free)} are free"
    if free < LOW_BYTES:
        report.warn(text, "Free space soon: events get lost on a full disk.")
    else:
        report.ok(text)


def _tells_of(folder: Path, file: Path) -> bool:
    """Whether a write to a folder tells of one to a file: not if the file is mounted by itself, or
    the folder is not the program's own."""
    if not file.exists():
        return True
    return os.access(folder, os.W_OK | os.X_OK) and file.stat().st_dev == folder.stat().st_dev


async def _share(report: Report, *, file: Path) -> None:
    report.warn(
        f"authsvc and the adapter append to one file, {file}",
        "Give each its own: it is private to one user, and has the format of one of them.",
    )
