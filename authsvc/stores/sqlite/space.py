"""The file system of the database file."""

from __future__ import annotations

import os
from pathlib import Path

from authsvc.domain.service_status import StoreSpace
from authsvc.stores.sqlite.schema import unavailable


def read_space(folder: Path) -> StoreSpace:
    """The space of a folder's file system. What only root may use counts as used.

    Raises:
        AuthError: STORE_UNAVAILABLE: the folder is not there.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise unavailable(f"{folder}: {error.strerror}") from None
    size = found.f_blocks * found.f_frsize
    return StoreSpace("disk", size - found.f_bavail * found.f_frsize, size)
