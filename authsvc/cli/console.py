"""``authsvc console``."""

from __future__ import annotations

from pathlib import Path

import click

from authsvc.console import cli


@click.group(
    invoke_without_command=True,
    epilog="Example: authsvc console --config console.toml",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file. Each setting can also be an AUTHSVC_CONSOLE_… variable.",
)
@click.pass_context
def command(ctx: click.Context, config: Path | None) -> None:
    """Serve the operator's web console until SIGTERM or Ctrl-C."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(cli.serve, config=config)


command.add_command(cli.operator)
