"""What each of our programs does before anything else."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from typing import Any

import click

log = logging.getLogger(__name__)

DEBUG_SWITCHES = (
    "GRPC_TRACE",  # metadata of calls, service tokens among it, on standard error
    "PROMETHEUS_MULTIPROC_DIR",  # a copy of each metric in files
    "prometheus_multiproc_dir",
    "PYDANTIC_SETTINGS_DEBUG",  # all settings, passwords of stores among them
    "SSLKEYLOGFILE",  # the keys of each TLS connection in a file
)
"""Variables by which libraries log or store secrets."""


def drop_debug_switches() -> None:
    """Remove them from this process and from those that it starts."""
    for name in DEBUG_SWITCHES:
        os.environ.pop(name, None)


def silence_grpc_core() -> None:
    """Keep gRPC's core from writing to standard error by itself, unless the operator wants it to.

    It writes lines for each failed TLS handshake. Any unauthenticated peer of a server could fill
    the disk with them, and no collector can read them; a command explains the failure itself. Has
    to be called before gRPC is imported: that is when the core reads ``GRPC_VERBOSITY``.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def forbid_core_dumps() -> None:
    """Have nothing written of this process when it crashes: tokens and keys are in its memory.

    Where the system has no limit of core dumps, none is set. On Linux a limit of 0 binds files
    alone, and a program that takes dumps (``core_pattern``, systemd-coredump) gets them all the
    same; so the process is marked as one that is not dumped. That mark keeps other processes of
    the same user from reading its memory, too. A program that is executed loses it, and so each
    of ours sets it for itself.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        call = ctypes.CDLL(None, use_errno=True).prctl
        if call(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            log.warning(
                "core dumps are limited, and not forbidden: %s", os.strerror(ctypes.get_errno())
            )


_PR_SET_DUMPABLE = 4


class Program(click.Group):
    """The commands of a program, before any of which is imported the process is made safe."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as click has it
        """Run a command."""
        drop_debug_switches()
        silence_grpc_core()
        return super().main(*args, **kwargs)
