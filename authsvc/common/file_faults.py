"""Why a file that a setting names cannot be read, in a line for people."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def file_fault(path: Path, error: OSError) -> str:
    """The path and the system's message; of a file that is missing, also what its path is relative
    to."""
    where = relative_to(path) if isinstance(error, FileNotFoundError) else ""
    return f"{path}: {error.strerror}{where}"


def is_missing(path: Path) -> bool:
    """Whether there is no such file. Not by ``Path.exists``, which raises for a folder that may not
    be searched."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def relative_to(path: Path) -> str:
    """What a path is relative to, to follow the message that its file is missing; empty for an
    absolute one."""
    if not path.is_absolute():
        with suppress(OSError):  # the working directory was removed
            return f" (relative to {Path.cwd()})"
    return ""
