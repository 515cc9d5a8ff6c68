"""A disk that is full for one process: its files may grow no more."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.program import Program


@contextmanager
def full(program: Program, size_bytes: int) -> Iterator[None]:
    """A program's writes beyond an offset fail during the block, in every file of its own.

    As on a full disk, what is there can be read and overwritten. It is a limit of the kernel's
    (``RLIMIT_FSIZE``), which needs no rights and touches nobody else's files.

    Args:
        program: which runs.
        size_bytes: the offset. The files that it has to go on writing, such as its log, are
            shorter.
    """
    limits = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        if program.is_running:
            resource.prlimit(program.pid, resource.RLIMIT_FSIZE, limits)
