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
@click.option("--lifeline", type=(int, int), hidden=True, help="What ties a worker to us.")
def serve(config: Path | None, lifeline: tuple[int, int] | None) -> None:
    """Serve AuthService over gRPC until SIGTERM or Ctrl-C."""
    # Imported here so that the other commands start at once.
    import uvloop

    from authsvc import logs, server, workers
    from authsvc.config import Settings

    try:
        settings = load(Settings, config)
        logs.configure(settings.log_level, settings.log_format)
        if settings.audit_file is not None:
            _append_audit(settings.audit_file)
        if lifeline is not None:
            uvloop.run(server.serve(settings, workers.Lifeline(*lifeline)))
        elif settings.workers > 1:
            again = ["serve", *(("--config", str(config)) if config else ())]
            uvloop.run(workers.supervise(settings, workers.worker_command(again)))
        else:
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


@main.command("dev-certificates")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/tls"),
    show_default=True,
    help="Where to write ca.pem, server.pem, server.key, client.pem and client.key.",
)
@click.option(
    "--client-name",
    default="spiffe://dev/adapter",
    show_default=True,
    help="The URI in the client's certificate, for callers' certificate_names.",
)
def dev_certificates(folder: Path, client_name: str) -> None:
    """Write certificates for development: an authority, a server here, and one client.

    They last 30 days, and are for localhost alone.
    """
    from authsvc.tls import write_development_certificates

    try:
        write_development_certificates(folder, client_name=client_name)
    except OSError as error:
        _fail(ConfigError(f"{folder}: {error.strerror}"))
    click.echo(f"Wrote {folder}/ca.pem, server.pem, server.key, client.pem and client.key")


def _append_audit(path: Path) -> None:
    from authsvc import audit, logs

    try:
        logs.append_to_file(audit.LOGGER_NAME, path)
    except OSError as error:
        raise ConfigError(f"audit_file: {path}: {error.strerror}") from None


def _fail(error: ConfigError) -> None:
    click.echo(f"authsvc: {error}", err=True)
    sys.exit(2)
