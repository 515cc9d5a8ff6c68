"""A local S3 API with objects: ``python -m demo.s3 --port 5555``, or within a test."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import botocore.session
import click
from botocore.config import Config
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from demo.buckets import BUCKETS, objects
from demo.children import POLL_SECONDS
from demo.stopping import Stop


@contextmanager
def serving_s3(buckets: Mapping[str, Mapping[str, bytes]], port: int = 0) -> Iterator[str]:
    """Serve ``buckets``, bodies by key by bucket, on loopback.

    Yields:
        The endpoint's URL.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    # It logs a line for each request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, actual_port = server.get_host_and_port()
        url = f"http://{host}:{actual_port}"
        _seed(url, buckets)
        yield url
    finally:
        server.stop()
        _drop(buckets)


def _drop(buckets: Iterable[str]) -> None:
    """Delete the buckets: moto has one storage for all servers of a process."""
    for bucket in buckets:
        s3_backends.bucket_accounts.pop(bucket, None)
        for account in s3_backends.values():
            for backend in account.values():
                backend.buckets.pop(bucket, None)


def _seed(url: str, buckets: Mapping[str, Mapping[str, bytes]]) -> None:
    client: Any = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="seed",
        aws_secret_access_key="seed",  # noqa: S106 - moto takes any
        config=Config(proxies={}),
    )
    for bucket, bodies in buckets.items():
        client.create_bucket(Bucket=bucket)
        for key, body in bodies.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)
    client.close()


@click.command()
@click.option("--port", default=5555, show_default=True, help="On 127.0.0.1; 0 for any.")
def main(port: int) -> None:
    """Serve the demo's buckets until SIGTERM or Ctrl-C."""
    stop = Stop((signal.SIGTERM, signal.SIGINT))
    with serving_s3({bucket: objects(bucket) for bucket in BUCKETS}, port) as url:
        click.echo(f"listening on {url}", err=True)
        while not stop.wait(POLL_SECONDS):
            pass


if __name__ == "__main__":
    main()
