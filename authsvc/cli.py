"""The command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from authsvc import __version__
from authsvc.settings import ConfigError, load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file. Each setting can also be an AUTHSVC_… variable, with __ between nested "
    "names: AUTHSVC_STORE__PATH.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authsvc")
def main() -> None:
    """Session-aware authentication for MCP servers."""


@main.command()
@config_option
def serve(config: Path | None) -> None:
    """Serve AuthService over gRPC until SIGTERM or Ctrl-C."""
    # Imported here so that the other commands start at once.
    import uvloop

    from authsvc import logs, server
    from authsvc.config import Settings

    try:
        settings = load(Settings, config)
        logs.configure(settings.log_level, settings.log_format)
        uvloop.run(server.serve(settings))
    except ConfigError as error:
        _fail(error)


@main.command()
@config_option
@click.option("--sub", required=True, help="The subject (claim sub).")
@click.option("--role", "roles", multiple=True, help="A role; repeat for more.")
@click.option("--bucket", "buckets", multiple=True, help="A bucket; repeat for more.")
@click.option("--permission", "permissions", multiple=True, help="Such as s3:GetObject; repeat.")
@click.option("--scope", "scopes", multiple=True, help="A scope; repeat for more.")
@click.option("--aud", "audience", help="The resource that it is for (claim aud).")
@click.option("--client", "client_id", default="authsvc-cli", help="Claim client_id.")
@click.option("--ttl", default=3600, help="Seconds until it expires; negative for an expired one.")
def token(
    config: Path | None,
    sub: str,
    roles: tuple[str, ...],
    buckets: tuple[str, ...],
    permissions: tuple[str, ...],
    scopes: tuple[str, ...],
    audience: str | None,
    client_id: str,
    ttl: int,
) -> None:
    """Print a development token, signed with the configured HS256 secret.

    What is not given comes from the [development] table of the configuration.
    """
    from authsvc.config import Settings
    from authsvc.development import mint_token

    try:
        settings = load(Settings, config)
        claims = {
            "sub": sub,
            "aud": audience,
            "client_id": client_id,
            "roles": roles,
            "buckets": buckets,
            "permissions": permissions,
            "scope": " ".join(scopes),
        }
        click.echo(mint_token(settings, claims, ttl_seconds=ttl, now=time.time()))
    except ConfigError as error:
        _fail(error)


def _fail(error: ConfigError) -> None:
    click.echo(f"authsvc: {error}", err=True)
    sys.exit(2)
