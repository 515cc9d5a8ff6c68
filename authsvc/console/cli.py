"""The console's command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from authsvc.common.printable import printable_lines
from authsvc.common.process import Program, forbid_core_dumps
from authsvc.common.settings import ConfigError, load


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The operator's web console of authsvc."""


@main.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file. Each setting can also be an AUTHSVC_CONSOLE_… variable.",
)
def serve(config: Path | None) -> None:
    """Serve the console until SIGTERM or Ctrl-C."""
    # Before the imports that take long.
    from authsvc.common import hangup

    hangup.ignore_hangups()
    from authsvc.common import event_loop
    from authsvc.telemetry import logs

    try:
        event_loop.require_supported_platform()
        from authsvc.console.config import ConsoleSettings
        from authsvc.console.server import serve as serve_console

        settings = load(ConsoleSettings, config)
        logs.configure(settings.log_level, settings.log_format)
        if not settings.allow_core_dumps:
            forbid_core_dumps()
        event_loop.run(serve_console(settings))
    except ConfigError as error:
        click.echo(f"authsvc console: {printable_lines(str(error))}", err=True)
        sys.exit(2)


@main.command()
@click.argument("name")
def operator(name: str) -> None:
    """Ask for a passphrase, and print NAME's line for operators_file."""
    from authsvc.console.passphrases import operator_line

    passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    try:
        click.echo(operator_line(name, passphrase))
    except ValueError as error:
        click.echo(f"authsvc console: {printable_lines(str(error))}", err=True)
        sys.exit(2)
