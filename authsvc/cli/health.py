"""``authsvc health``."""

from __future__ import annotations

import asyncio
import http.client
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import click

from authsvc.cli.failing import Failure, Negative, connection_remedy
from authsvc.cli.output import as_json_option, print_json, print_line
from authsvc.common.formats import check_base_url

_file = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog="Examples: authsvc health 127.0.0.1:50051 --ca-file ca.crt --name authsvc; "
    "authsvc health http://127.0.0.1:8000/readyz"
)
@click.argument("target")
@click.option(
    "--ca-file", type=_file, help="Authorities (PEM) that sign its certificate; without it, no TLS."
)
@click.option("--certificate-file", type=_file, help="Our certificate, if it requires one.")
@click.option("--key-file", type=_file, help="Its key.")
@click.option("--name", default="", help="Name in its certificate, if not the host of TARGET.")
@click.option(
    "--alive", is_flag=True, help="Any answer counts, NOT_SERVING too; for liveness probes."
)
@click.option(
    "--timeout-seconds", default=2.0, show_default=True, help="Timeout, connecting included."
)
@as_json_option
def command(
    target: str,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    name: str,
    alive: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Check the health of one server.

    TARGET is host:port or unix:/path of an authsvc (grpc.health.v1), or an http:// URL of an
    adapter.

    Exit code 0 if it is healthy; 1 if it is not, or does not answer; 2 for wrong usage, or a
    certificate file that cannot be used.
    """
    if "://" in target and not target.startswith("http://"):
        raise Failure("TARGET is host:port, unix:/path or an http:// URL")
    if target.startswith("http://"):
        status = _http_status(target, timeout_seconds)
        healthy, answered, answer, why = status == 200, True, f"HTTP {status}", ""
    else:
        # Imported here: it is slow to import, HTTP does not need it, and probes run often.
        from authsvc.client import ClientTls
        from authsvc.client.health import probe

        tls = ClientTls(ca_file, certificate_file, key_file) if ca_file else None
        try:
            health = asyncio.run(probe(target, tls=tls, name=name, timeout_seconds=timeout_seconds))
        except OSError as error:
            raise Failure(f"TLS: {error.strerror}") from None
        healthy, answered, answer = health.serving, health.answered, health.text
        remedy = connection_remedy(health.cause, target, tls, name=name)
        why = f"{health.cause}\n{remedy}".strip()
    healthy = healthy or (alive and answered)
    if as_json:
        print_json({"target": target, "healthy": healthy, "answer": answer, "cause": why or None})
    elif healthy:
        print_line(answer)
    if not healthy:
        text = answer if answered else f"no answer: {answer}"
        raise Negative(f"{text}: {why}" if why else text)


def _http_status(url: str, timeout_seconds: float) -> int:
    """
    Raises:
        Failure: it is not such a URL.
        Negative: there is no answer.
    """
    try:
        check_base_url(url)
    except ValueError as error:
        raise Failure(f"TARGET {error}") from None
    try:
        return http_status(url, timeout_seconds=timeout_seconds)
    except OSError as error:
        raise Negative(f"no answer: {error}") from None


def http_status(url: str, *, timeout_seconds: float) -> int:
    """The status that an ``http://`` URL answers with.

    Raises:
        OSError: there is no answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=timeout_seconds
    )
    try:
        with closing(connection):
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {type(error).__name__}") from None
