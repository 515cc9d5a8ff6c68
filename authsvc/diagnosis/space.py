"""The file system of what is written: whether it takes a write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

LOW_BYTES = 1 << 30
"""Free space below which to warn."""

PROBE_BYTES = 64 << 10
"""Bytes that are written to see whether a file system takes any."""


def try_write(folder: Path) -> None:
    """Write some pages to a file without a name, which is gone once it is closed.

    Args:
        folder: where; nothing in it is changed.

    Raises:
        OSError: the file system takes no writes, of this user or of any.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def size(count: int) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"
