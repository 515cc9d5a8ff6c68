"""Connections to real gRPC servers: addresses of every kind, and whom TLS trusts."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import uvloop
from cryptography import x509
from grpc import aio

from authsvc.client.failures import AttemptError, failure_of
from authsvc.client.http2.connecting import authority, connect
from authsvc.client.stream import METHOD, ResolveStream
from authsvc.client.targets import Endpoint
from authsvc.client.tls import Certificates, ClientTls
from authsvc.client.tls_context import context_of
from authsvc.net.certificates import SignedCertificate, issue, make_authority
from authsvc.net.channels import open_channel
from authsvc.server.listener import listen_at
from authsvc.wire import frames
from authsvc.wire.errors import STATUS_DETAILS_KEY
from tests.authsvc.client.fleet import BOUND_SECONDS
from tests.authsvc.client.http2.peer import settings
from tests.support.sockets import serving_tcp

pytestmark = pytest.mark.anyio

NAMES = (x509.DNSName("authsvc.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
Pair = tuple[bytes, bytes]


def pem(signed: SignedCertificate) -> Pair:
    """Its key and its certificate."""
    return signed.key_pem(), signed.certificate_pem()


@dataclass
class Made:
    """An authority, and what it has signed."""

    authority: SignedCertificate
    server: Pair
    client: Pair

    @property
    def trusted(self) -> bytes:
        """The authority's certificate."""
        return self.authority.certificate_pem()


def make(names: tuple[x509.GeneralName, ...] = NAMES, days: float = 1) -> Made:
    """An authority, a server and a client."""
    signer = make_authority("test", days=1)
    client = issue(signer, "client", (x509.DNSName("client"),), days=1, client=True)
    return Made(signer, pem(issue(signer, "server", names, days=days)), pem(client))


@pytest.fixture(scope="module")
def made() -> Made:
    """One authority for all tests that need no other."""
    return make()


async def echo(context: aio.ServicerContext[bytes, bytes]) -> None:
    """Answer each entry with the request itself."""
    while isinstance(batch := await context.read(), bytes):
        await context.write(batch)


@asynccontextmanager
async def serving(
    address: str, pair: Pair | None = None, client_ca: bytes | None = None
) -> AsyncIterator[str]:
    """A gRPC server whose stream answers with the requests; its address."""

    async def handle(_: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        await echo(context)

    server = aio.server()
    _, service, method = METHOD.split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    credentials = None
    if pair is not None:
        credentials = grpc.ssl_server_credentials(
            [pair], client_ca, require_client_auth=client_ca is not None
        )
    listening = listen_at(server, address, credentials)
    await server.start()
    try:
        yield listening
    finally:
        await server.stop(None)


async def answer_of(endpoint: Endpoint, context: ssl.SSLContext | None = None) -> bytes:
    """What the server answers to a request of 100 KB."""
    async with asyncio.timeout(BOUND_SECONDS):
        connection = await connect(endpoint, context, STATUS_DETAILS_KEY)
        stream = ResolveStream(connection, ())
        try:
            return await stream.ask(b"r" * 100_000, BOUND_SECONDS)
        finally:
            await stream.end(1.0)
            assert connection.closed.done()


@pytest.mark.parametrize(
    ("address", "whom"),
    [
        ("127.0.0.1:0", None),
        ("localhost:0", None),
        ("[::1]:0", None),
        ("unix:{}/s", "localhost"),
        ("unix://{}/s", "localhost"),
    ],
)
async def test_addresses_of_every_kind(address: str, whom: str | None, tmp_path: Path) -> None:
    async with serving(address.format(tmp_path)) as listening:
        assert await answer_of(Endpoint(listening)) == b"r" * 100_000
        assert authority(Endpoint(listening)) == (whom or listening)
        assert authority(Endpoint(listening, host="a.example")) == "a.example"


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    async with serving("127.0.0.1:0") as listening:
        assert await answer_of(Endpoint(listening))


@pytest.mark.parametrize("host", ["", "authsvc.example", "AUTHSVC.example", "authsvc.example."])
async def test_a_server_with_its_certificate(made: Made, host: str) -> None:
    async with serving("127.0.0.1:0", made.server) as listening:
        assert await answer_of(Endpoint(listening, host), context_of(made.trusted, None))


async def test_a_server_on_a_unix_socket_with_its_certificate(tmp_path: Path) -> None:
    there = make((x509.DNSName("localhost"),))
    async with serving(f"unix:{tmp_path}/s", there.server) as listening:
        assert await answer_of(Endpoint(listening), context_of(there.trusted, None))


async def test_a_certificate_may_be_trusted_by_itself(made: Made) -> None:
    async with serving("127.0.0.1:0", made.server) as listening:
        assert await answer_of(Endpoint(listening), context_of(made.server[1], None))


@pytest.mark.parametrize("wrong", ["authority", "name", "address", "expired"])
async def test_a_server_that_is_not_trusted(made: Made, wrong: str) -> None:
    there, host, trusted = made, "", made.trusted
    match wrong:
        case "authority":
            trusted = make_authority("another", days=1).certificate_pem()
        case "name":
            host = "another.example"
        case "address":
            there = make((x509.DNSName("authsvc.example"), x509.DNSName("127.0.0.1")))
        case "expired":
            past = datetime.timedelta(minutes=1) / datetime.timedelta(days=1)
            there = make(days=-past)
    trusted = trusted if wrong == "authority" else there.trusted
    async with serving("127.0.0.1:0", there.server) as listening:
        with pytest.raises(ssl.SSLCertVerificationError):
            await answer_of(Endpoint(listening, host), context_of(trusted, None))


async def test_a_name_that_no_certificate_can_have(made: Made) -> None:
    async with serving("127.0.0.1:0", made.server) as listening:
        with pytest.raises(ConnectionError):
            await answer_of(Endpoint(listening, ".example"), context_of(made.trusted, None))


async def test_a_client_shows_its_certificate(made: Made) -> None:
    async with serving("127.0.0.1:0", made.server, client_ca=made.trusted) as listening:
        assert await answer_of(Endpoint(listening), context_of(made.trusted, made.client))


@pytest.mark.parametrize("shown", [None, "another"])
async def test_a_client_without_the_certificate_is_not_served(
    made: Made, shown: str | None
) -> None:
    pair = make().client if shown else None
    async with serving("127.0.0.1:0", made.server, client_ca=made.trusted) as listening:
        with pytest.raises(OSError, match=r"."):
            await answer_of(Endpoint(listening), context_of(made.trusted, pair))


@pytest.mark.parametrize("offered", [None, "http/1.1"])
async def test_a_server_that_does_not_agree_on_http_2(
    made: Made, offered: str | None, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "pair").write_bytes(made.server[1] + made.server[0])
    context.load_cert_chain(tmp_path / "pair")
    if offered:
        context.set_alpn_protocols([offered])

    async def speak_it_all_the_same(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(settings())
        await reader.read(-1)

    async with serving_tcp(speak_it_all_the_same, tls=context) as (host, port):
        with pytest.raises(ConnectionError, match="does not speak HTTP/2"):
            await answer_of(Endpoint(f"{host}:{port}"), context_of(made.trusted, None))


async def test_old_versions_of_tls_are_not_spoken(made: Made, tmp_path: Path) -> None:
    context = context_of(made.trusted, None)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_uvloop_speaks_tls_too(made: Made) -> None:
    async def run() -> bytes:
        async with serving("127.0.0.1:0", made.server, client_ca=made.trusted) as listening:
            return await answer_of(Endpoint(listening), context_of(made.trusted, made.client))

    assert uvloop.run(run())


# The files.


def written(folder: Path, made: Made) -> ClientTls:
    """The files of a client."""
    files = ClientTls(folder / "ca.pem", folder / "client.pem", folder / "client.key")
    (folder / "ca.pem").write_bytes(made.trusted)
    (folder / "client.key").write_bytes(made.client[0])
    (folder / "client.pem").write_bytes(made.client[1])
    return files


async def test_renewed_files_are_used_as_by_channels(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(written(tmp_path, make()))
    monkeypatch.setattr("authsvc.net.watched_file.WATCH_INTERVAL_SECONDS", 0.0)
    async with serving("127.0.0.1:0", made.server, client_ca=made.trusted) as listening:
        endpoint = Endpoint(listening)
        with pytest.raises(ssl.SSLCertVerificationError):
            await answer_of(endpoint, certificates.context)
        written(tmp_path, made)
        assert certificates.renew()
        assert await answer_of(endpoint, certificates.context)
        # A pair that is half replaced is not used, nor is the rest of it lost.
        before = certificates.context
        (tmp_path / "client.key").write_bytes(make().client[0])
        assert not certificates.renew()
        assert certificates.context is before


def test_a_pair_leaves_no_file_and_no_descriptor(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for memory in (True, False):
        if not memory:
            monkeypatch.delattr(os, "memfd_create", raising=False)
        before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()
        context_of(made.trusted, made.client)
        after = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()
        assert len(before) == len(after)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"."):
        context_of(made.trusted, (made.client[0], made.server[1]))
    assert list(tmp_path.iterdir()) == []


# What grpc itself says of the same server.


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
@pytest.mark.parametrize("details", [None, b"", b"\x08\x07\x12\x01x", bytes(range(256))])
async def test_failures_are_those_that_grpc_reports(
    code: grpc.StatusCode, details: bytes | None
) -> None:
    async def handle(_: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        if details is not None:
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, details),))
        context.set_code(code)
        context.set_details("text ü")

    server = aio.server()
    _, service, method = METHOD.split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            multi: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
            expected = None
            try:
                assert await multi().read() is aio.EOF
            except aio.AioRpcError as error:
                expected = failure_of(error)
        connection = await connect(Endpoint(f"127.0.0.1:{port}"), None, STATUS_DETAILS_KEY)
        stream = ResolveStream(connection, ())
        with pytest.raises(AttemptError) as caught:
            await stream.ask(b"r", BOUND_SECONDS)
        await stream.end()
    finally:
        await server.stop(None)
    found = caught.value.failure
    if expected is None:
        assert code is grpc.StatusCode.OK
        assert "the stream has ended" in str(found.error.detail)
    else:
        assert str(found) == str(expected)


def test_an_entry_is_what_grpc_would_have_sent() -> None:
    from authsvc.v1 import auth_pb2 as pb

    request = pb.ResolveSessionRequest(session_id="s", token="t" * 20_000, resource="r")
    for request_id in (1, 127, 128, 2**14, 2**63):
        for traceparent in ("", "00-" + "a" * 52):
            entry = pb.ResolveSessionStreamRequest.Entry(
                request_id=request_id, request=request, traceparent=traceparent
            )
            batch = pb.ResolveSessionStreamRequest(
                entries=[entry], cancelled_request_ids=[1, 300, 2**40]
            )
            parts = frames.request_entry(request_id, request.SerializeToString(), traceparent)
            built = b"".join((*parts, frames.cancelled([1, 300, 2**40])))
            assert built == batch.SerializeToString()
