"""Asks a server for its health. For probes: exit code 0 if it is well, 1 if not.

    healthcheck.py 127.0.0.1:50051 --ca-file ca.crt --name authsvc    gRPC, grpc.health.v1
    healthcheck.py http://127.0.0.1:8000/readyz                       HTTP

Kubernetes' own gRPC probe does not speak TLS; this does, without a binary more in the image.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

SERVING = b"\x08\x01"
"""``HealthCheckResponse{status: SERVING}``: field 1, a varint, 1."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Ask a server for its health.")
    parser.add_argument("target", help="host:port of a gRPC server, or an http:// URL.")
    parser.add_argument("--ca-file", type=Path, help="Who signs its certificate; else no TLS.")
    parser.add_argument("--name", help="The name in its certificate, if not that of the target.")
    parser.add_argument(
        "--alive", action="store_true", help="Whatever it answers, NOT_SERVING say, is well."
    )
    parser.add_argument("--timeout", type=float, default=2.0, help="In seconds.")
    given = parser.parse_args()
    if given.target.startswith("http://"):
        return _http(given.target, alive=given.alive, timeout_seconds=given.timeout)
    return _grpc(
        given.target, given.ca_file, given.name, alive=given.alive, timeout_seconds=given.timeout
    )


def _http(url: str, *, alive: bool, timeout_seconds: float) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=timeout_seconds
    )
    try:
        with closing(connection):
            connection.request("GET", parts.path or "/")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return _unwell(f"no answer: {error}")
    return 0 if alive or status == 200 else _unwell(f"HTTP {status}")


def _grpc(
    target: str, ca_file: Path | None, name: str | None, *, alive: bool, timeout_seconds: float
) -> int:
    # Here, since HTTP does without, and a probe runs often.
    import grpc

    if ca_file is None:
        channel = grpc.insecure_channel(target)
    else:
        options = (("grpc.ssl_target_name_override", name),) if name else ()
        channel = grpc.secure_channel(
            target, grpc.ssl_channel_credentials(ca_file.read_bytes()), options
        )
    with channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        try:
            answer = check(b"", timeout=timeout_seconds)
        except grpc.RpcError as error:
            return _unwell(f"no answer: {error.code().name}")
    return 0 if alive or answer == SERVING else _unwell("NOT_SERVING")


def _unwell(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
