"""What each of our programs does before anything else."""

from __future__ import annotations

import os
from typing import Any

import click

DEBUG_SWITCHES = (
    "GRPC_TRACE",  # metadata of calls, service tokens among it, on standard error
    "PROMETHEUS_MULTIPROC_DIR",  # a copy of each metric in files
    "prometheus_multiproc_dir",
    "PYDANTIC_SETTINGS_DEBUG",  # all settings, passwords of stores among them
    "SSLKEYLOGFILE",  # the keys of each TLS connection in a file
)
"""Variables by which libraries write down what must not be written down."""


def drop_debug_switches() -> None:
    """Remove them from this process and from those that it starts."""
    for name in DEBUG_SWITCHES:
        os.environ.pop(name, None)


class Program(click.Group):
    """The commands of a program, before any of which is imported the process is made safe."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as click has it
        """Run a command."""
        drop_debug_switches()
        return super().main(*args, **kwargs)
