"""The command line of ``python -m mcp_adapter.tools``."""

from __future__ import annotations

import sys

import click

from authsvc.common.settings import ConfigError
from mcp_adapter.tools.loading import OWN, tools_of
from mcp_adapter.tools.reference import reference


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("packages", nargs=-1)
def main(packages: tuple[str, ...]) -> None:
    """Print the reference of the tools in PACKAGES; of the adapter's own without any."""
    try:
        tools = [item for name in packages for item in tools_of(name)] if packages else OWN
    except ConfigError as error:
        click.echo(f"mcp_adapter.tools: {error}", err=True)
        sys.exit(2)
    click.echo(reference(tools), nl=False)
