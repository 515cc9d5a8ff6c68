"""What a server writes to standard error is structured, whatever peers send."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest

from authsvc.net.development_certificates import write_development_certificates
from tests.support.processes import Process, spawn
from tests.support.tokens import ISSUER, RESOURCE

WAIT_SECONDS = 60
HANDSHAKES = 50
FEW_LINES = 20


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    write_development_certificates(folder, client_name="spiffe://dev/adapter")
    return folder


@pytest.fixture
def server(tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    (tmp_path / "secret").write_text(token_hex(32))
    (tmp_path / "token").write_text(token_hex(32))
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f"""\
listen = "127.0.0.1:0"
log_format = "json"
drain_seconds = 0
[tls]
certificate_file = "{tls}/server.pem"
key_file = "{tls}/server.key"
[store]
kind = "memory"
[[callers]]
name = "mcp"
resources = ["{RESOURCE}"]
service_token_files = ["{tmp_path}/token"]
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{tmp_path}/secret"
"""
    )
    with spawn("authsvc", "serve", "--config", str(config)) as process:
        yield process


def answered(port: int, data: bytes) -> None:
    """Send bytes and wait until the server has ended the connection."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as peer, suppress(OSError):
        peer.sendall(data)
        while peer.recv(4096):
            pass


def test_invalid_handshakes_do_not_flood_the_log(server: Process, tls: Path) -> None:
    address = str(server.wait_for("listening on", WAIT_SECONDS)["address"])
    port = int(address.rpartition(":")[2])
    for _ in range(HANDSHAKES):
        answered(port, b"GET / HTTP/1.1\r\n\r\n")
        answered(port, os.urandom(300))
        # A client that does not know the authority ends the handshake itself.
        with (
            socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as peer,
            suppress(ssl.SSLError),
        ):
            ssl.create_default_context().wrap_socket(peer, server_hostname="localhost")
    context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    for junk in (b"no preface" * 50, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(500)):
        with (
            socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as peer,
            suppress(OSError),
            context.wrap_socket(peer, server_hostname="localhost") as secured,
        ):
            secured.recv(1)  # its settings: the handshake is over
            secured.sendall(junk)
    server.end()
    lines = server.output.splitlines()
    assert [line for line in lines if not isinstance(json.loads(line), dict)] == []
    assert len(lines) < FEW_LINES
