"""``authsvc dev-certificates``."""

from __future__ import annotations

from pathlib import Path

import click

from authsvc.cli.failing import Failure


@click.command(epilog="Example: authsvc dev-certificates --folder var/tls")
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
def command(folder: Path, client_name: str) -> None:
    """Write certificates for development: an authority, a localhost server and a client.

    They are valid for 30 days, and only for localhost.
    """
    from authsvc.net.development_certificates import write_development_certificates

    try:
        write_development_certificates(folder, client_name=client_name)
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from None
    click.echo(f"Wrote {folder}/ca.pem, server.pem, server.key, client.pem and client.key")
