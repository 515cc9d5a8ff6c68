"""What clients and commands say of a TLS connection that fails: the cause first, in plain words."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc import aio

from authsvc.cli.failing import Unreachable, errors_explained
from authsvc.client import ClientTls
from authsvc.client.failures import Failure, failure_of
from authsvc.client.targets import Endpoint
from authsvc.diagnosis import Level, Report, link, listening
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.certificates import SignedCertificate, issue, make_authority
from authsvc.net.channels import open_channel
from authsvc.net.tls import ServerCertificates
from authsvc.server.listener import listen_at
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.server import server_at
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import PATIENT, run_here
from tests.support.sockets import Handler, serving_tcp

pytestmark = pytest.mark.anyio

MINUTE = 1 / 1_440
"""In days."""


@dataclass
class Place:
    """Certificates in a folder: of a server and of a client, and two authorities."""

    folder: Path
    days: float = 1
    address: str = "127.0.0.1"
    client_days: float = 1
    ours: SignedCertificate = field(default_factory=lambda: make_authority("ours", days=1))

    def __post_init__(self) -> None:
        names = [x509.IPAddress(ipaddress.ip_address(self.address))]
        self.write("server", issue(self.ours, "server", names, days=self.days))
        self.write("client", issue(self.ours, "client", names, days=self.client_days, client=True))
        self.write("ca", self.ours)
        self.write("other", make_authority("other", days=1))

    def write(self, name: str, signed: SignedCertificate) -> None:
        (self.folder / f"{name}.pem").write_bytes(signed.certificate_pem())
        (self.folder / f"{name}.key").write_bytes(signed.key_pem())

    def client(self, authority: str = "ca", *, presents: bool = False) -> ClientTls:
        pair = (self.folder / "client.pem", self.folder / "client.key")
        ca_file = self.folder / f"{authority}.pem"
        return ClientTls(ca_file, *pair) if presents else ClientTls(ca_file)

    def serving(self, *, mutual: bool) -> grpc.ServerCredentials:
        authorities = self.folder / "ca.pem" if mutual else None
        pair = (self.folder / "server.pem", self.folder / "server.key")
        return ServerCertificates(*pair, authorities).credentials()


Case = Callable[[Path], tuple[Place, ClientTls | None, bool | None]]
"""The certificates, how the client connects, and whether the server requires a certificate: None
for one without TLS."""


def expired(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder, days=-MINUTE)
    return place, place.client(), False


def another_authority(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder)
    return place, place.client("other"), False


def another_name(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder, address="192.0.2.1")
    return place, place.client(), False


def server_in_the_clear(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder)
    return place, place.client(), None


def client_in_the_clear(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    return Place(folder), None, False


def no_client_certificate(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder)
    return place, place.client(), True


def an_expired_client(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder, client_days=-MINUTE)
    return place, place.client(presents=True), True


def a_client_of_another_authority(folder: Path) -> tuple[Place, ClientTls | None, bool | None]:
    place = Place(folder)
    (folder / "ca.pem").replace(folder / "server-ca.pem")
    place.write("ca", make_authority("clients", days=1))
    return place, replace(place.client(presents=True), ca_file=folder / "server-ca.pem"), True


CLOSED = "closed by what listens there: it requires TLS, or another client certificate"


@pytest.mark.parametrize(
    ("case", "told", "remedy"),
    [
        (expired, "a certificate of authsvc has expired", "The certificate at ADDRESS expired on"),
        (
            another_authority,
            "ca_file does not have the authority of authsvc's certificate",
            "The certificate at ADDRESS is not signed by an authority in --ca-file",
        ),
        (
            another_name,
            "authsvc's certificate is for other names",
            "The certificate at ADDRESS is for 192.0.2.1, and not for 127.0.0.1: correct --",
        ),
        (
            server_in_the_clear,
            "what listens there does not speak TLS",
            "What listens at ADDRESS does not speak TLS",
        ),
        (client_in_the_clear, CLOSED, "What listens at ADDRESS requires TLS: give --ca-file"),
        (
            no_client_certificate,
            CLOSED,
            "What listens at ADDRESS requires a certificate of its callers: give --cert",
        ),
        (an_expired_client, CLOSED, "The certificate in --certificate-file FOLDER/client.pem exp"),
        (
            a_client_of_another_authority,
            CLOSED,
            "What listens at ADDRESS does not accept the certificate in --certificate-file FOLDER",
        ),
    ],
)
async def test_clients_and_commands_say_why_there_is_no_connection(
    case: Case, told: str, remedy: str, tmp_path: Path
) -> None:
    place, tls, mutual = case(tmp_path)
    server = aio.server()
    serving = None if mutual is None else place.serving(mutual=mutual)
    address = listen_at(server, "127.0.0.1:0", serving)
    await server.start()
    try:
        failure = await failure_at(address, tls)
        explained = await asyncio.to_thread(explanation, failure.error, address, tls)
        health = await run_here("health", address, *options(tls), *PATIENT)
    finally:
        await server.stop(None)
    assert failure.error.reason is Reason.SERVICE_UNAVAILABLE
    assert failure.error.detail.startswith(f"UNAVAILABLE: {told}: failed to connect")
    remedy = remedy.replace("ADDRESS", address).replace("FOLDER", str(tmp_path))
    assert explained.splitlines()[1].startswith(remedy)
    assert health.code == 1
    first, second = health.err.splitlines()[:2]
    assert first.startswith(f"authsvc: no answer: UNAVAILABLE: {told}: failed to connect")
    assert second.startswith(remedy)


async def failure_at(address: str, tls: ClientTls | None) -> Failure:
    credentials = None if tls is None else tls.channel_credentials()
    async with open_channel(address, credentials) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a.B/C")
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"", timeout=TIMEOUT_SECONDS)
    return failure_of(caught.value)


def explanation(error: AuthError, address: str, tls: ClientTls | None) -> str:
    """What the commands with a connection say."""
    with pytest.raises(Unreachable) as caught, errors_explained(address, tls):
        raise error
    return caught.value.message


def options(tls: ClientTls | None) -> list[str | Path]:
    if tls is None:
        return []
    given = {
        "--ca-file": tls.ca_file,
        "--certificate-file": tls.certificate_file,
        "--key-file": tls.key_file,
    }
    return [it for name, path in given.items() if path is not None for it in (name, path)]


@pytest.mark.parametrize(
    ("days", "told"), [(-MINUTE, "expired on 20"), (1, "verify failed"), (None, "expires on 20")]
)
async def test_doctor_dates_a_certificate_that_has_expired(
    days: float | None, told: str, tmp_path: Path
) -> None:
    place = Place(tmp_path, days=days or 1)
    server = aio.server()
    address = listen_at(server, "127.0.0.1:0", place.serving(mutual=False))
    await server.start()
    report = Report("authsvc")
    tls = place.client("other" if days == 1 else "ca")
    try:
        await link.look_at(report, Endpoint(address), tls, TIMEOUT_SECONDS, listening._ADVICE)
    finally:
        await server.stop(None)
    first = report.findings[0]
    assert first.level is (Level.OK if days is None else Level.FAIL)
    assert told in first.text.lower().replace("_", " ")


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """As Valkey in the clear: it waits for the end of a line, which a TLS handshake has not."""
    await reader.read(-1)


async def closing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """As a server with TLS, of a client in the clear."""
    await reader.read(1)


@pytest.mark.parametrize(
    ("handler", "scheme", "told"),
    [
        (silent, "rediss", "none before: does it speak TLS?"),
        (closing, "redis", "Does it expect TLS? Then set store.ca_file"),
    ],
)
async def test_a_store_says_that_only_one_side_speaks_tls(
    handler: Handler, scheme: str, told: str
) -> None:
    async with serving_tcp(handler) as (_, port):
        store = Link(server_at(f"{scheme}://127.0.0.1:{port}"), timeout_seconds=1.0, retries=False)
        with pytest.raises(AuthError) as caught:
            await store.ask("PING")
        await store.close()
    assert told in caught.value.detail
