"""A real S3 API on loopback, with objects in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class S3:
    """Where it is."""

    url: str


@contextmanager
def serving_s3(buckets: Mapping[str, Mapping[str, bytes]]) -> Iterator[S3]:
    """Serve ``buckets``: bodies by key by bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="seeder",
            aws_secret_access_key="seeder",
        )
        for bucket, objects in buckets.items():
            client.create_bucket(Bucket=bucket)
            for key, body in objects.items():
                client.put_object(Bucket=bucket, Key=key, Body=body)
        client.close()
        yield S3(url)
    finally:
        server.stop()
