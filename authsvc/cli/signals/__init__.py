"""``authsvc signals``: the streams of identity providers, a module for each command."""

from __future__ import annotations

import click

from authsvc.cli.signals.status import status
from authsvc.cli.signals.testing import test


@click.group("signals")
def command() -> None:
    """Show and test the streams of signals: sign-outs and events of identity providers."""


for subcommand in (status, test):
    command.add_command(subcommand)
