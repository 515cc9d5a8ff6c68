"""The command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from authsvc import __version__
from authsvc.common.printable import printable, printable_lines
from authsvc.common.process import Program, forbid_core_dumps, imports_of_a_server
from authsvc.common.settings import ConfigError, load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file. Each setting can also be an MCP_ADAPTER_… variable, with __ between "
    "nested names: MCP_ADAPTER_AUTHSVC__TARGET.",
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-adapter")
def main() -> None:
    """An MCP server that authorises each request by authsvc."""


def _listening_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    from authsvc.common.formats import check_listening

    try:
        return None if value is None else check_listening(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command(epilog="Example: mcp-adapter serve --config adapter.toml --listen 127.0.0.1:8001")
@config_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_listening_address,
    help="Listen here, whatever the configuration says; for a second replica.",
)
def serve(config: Path | None, listen: str | None) -> None:
    """Serve MCP over Streamable HTTP at the path of `resource` until SIGTERM or Ctrl-C.

    Clients find metadata at /.well-known/oauth-protected-resource, probes /healthz and /readyz.
    """
    # Imported here so that --help and --version answer at once. This one first: it takes no time.
    from authsvc.common import hangup

    hangup.ignore_hangups()
    with imports_of_a_server():
        from authsvc.common import event_loop
        from authsvc.telemetry import logs

    try:
        event_loop.require_supported_platform()
        with imports_of_a_server():
            from mcp_adapter.server import running as server
            from mcp_adapter.server.config import Settings

        settings = load(Settings, config)
        if listen is not None:
            settings = settings.model_copy(update={"listen": listen})
        logs.configure(settings.log_level, settings.log_format)
        if not settings.allow_core_dumps:
            forbid_core_dumps()
        event_loop.run(server.serve(settings))
    except ConfigError as error:
        click.echo(f"mcp-adapter: {printable_lines(str(error))}", err=True)
        sys.exit(2)


@main.command("check-config", epilog="Example: mcp-adapter check-config --config adapter.toml")
@config_option
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
def check_config(config: Path | None, as_json: bool) -> None:
    """Check a configuration, the files and the tools that it names, without serving.

    Exit code 0 if `serve` would accept it, 2 if not. Certificates that have expired or have to be
    renewed are warnings.
    """
    from authsvc.client.tls import file_faults
    from authsvc.net.certificate_files import warnings_of
    from mcp_adapter.server import running as server
    from mcp_adapter.server.config import Settings

    problems: list[str] = []
    warnings: list[str] = []
    try:
        settings = load(Settings, config)
        server.check(settings)
        authsvc = settings.authsvc
        warnings = warnings_of(authsvc.certificate_files(authsvc.ca_file))
        if authsvc.ca_file is not None:  # it starts without its token, and is denied until then
            warnings += [f"authsvc: {it}" for it in file_faults(authsvc.tls(authsvc.ca_file))]
    except ConfigError as error:
        problems = str(error).splitlines()
    if as_json:
        document = {"valid": not problems, "problems": problems, "warnings": warnings}
        click.echo(json.dumps(document, indent=2))
    else:
        for line in (*problems, *(f"warning: {it}" for it in warnings)):
            click.echo(f"mcp-adapter: {printable(line)}", err=True)
        if not problems:
            click.echo(printable(f"{config or 'The environment'}: valid."))
    sys.exit(2 if problems else 0)
