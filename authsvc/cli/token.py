"""``authsvc token``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings


@click.command(
    epilog="Example: authsvc token --config authsvc.toml --sub ada --role analyst --ttl 600"
)
@config_option
@click.option("--sub", required=True, help="The subject (claim sub).")
@click.option("--role", "roles", multiple=True, help="A role; repeat for more.")
@click.option("--bucket", "buckets", multiple=True, help="A bucket; repeat for more.")
@click.option("--permission", "permissions", multiple=True, help="Such as s3:GetObject; repeat.")
@click.option("--scope", "scopes", multiple=True, help="A scope; repeat for more.")
@click.option("--aud", "audience", help="The resource, claim aud.")
@click.option("--client", "client_id", default="authsvc-cli", help="Claim client_id.")
@click.option("--ttl", default=3600, help="Seconds until it expires; negative for an expired one.")
def command(
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
    """Print a development token, signed with the configured secret.

    Omitted claims come from the [development] table of the configuration.
    """
    from authsvc.server.development import mint_token

    settings = load_settings(config)
    claims = {
        "sub": sub,
        "aud": audience,
        "client_id": client_id,
        "roles": roles,
        "buckets": buckets,
        "permissions": permissions,
        "scope": " ".join(scopes),
    }
    with config_errors():
        click.echo(mint_token(settings, claims, ttl_seconds=ttl, now=time.time()))
