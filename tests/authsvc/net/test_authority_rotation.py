"""An authority is replaced by another without a failed connection, step by step, by every client
and server here."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from grpc import aio

from authsvc.client.http2.connecting import connect
from authsvc.client.targets import Endpoint
from authsvc.client.tls import ClientTls
from authsvc.client.tls_context import context_of
from authsvc.domain.errors import AuthError
from authsvc.net.certificate_data import same_names
from authsvc.net.certificates import SignedCertificate, issue, make_authority
from authsvc.net.channels import DIRECT
from authsvc.net.client_identity import ClientIdentity
from authsvc.net.served_context import ServedContext
from authsvc.net.tls import ServerCertificates
from authsvc.net.trust import Trust
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.server import RedisServer
from authsvc.wire.errors import STATUS_DETAILS_KEY
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.sockets import serving_tcp

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("files_always_checked")]

Authorities = tuple[SignedCertificate, SignedCertificate]

HOST = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Files:
    """Certificates of one installation, which a test replaces while servers and clients run."""

    def __init__(self, folder: Path, authorities: Authorities) -> None:
        self.folder = folder
        self.old, self.new = authorities
        self.trust(self.old)
        self.sign("server", self.old)
        self.sign("client", self.old)

    def trust(self, *authorities: SignedCertificate) -> None:
        """Have everybody trust these."""
        self.path("ca.pem").write_bytes(b"".join(it.certificate_pem() for it in authorities))

    def sign(self, name: str, authority: SignedCertificate) -> None:
        """Give a program a new certificate."""
        signed = issue(authority, name, [HOST], days=1, client=True)
        self.path(f"{name}.pem").write_bytes(signed.certificate_pem())
        self.path(f"{name}.key").write_bytes(signed.key_pem())

    def path(self, name: str) -> Path:
        return self.folder / name

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.path(f"{name}.pem"), self.path(f"{name}.key")

    def client(self) -> ClientTls:
        return ClientTls(self.path("ca.pem"), *self.pair("client"))


def one_name() -> Authorities:
    """Two authorities of one name, as of an organisation that has given its authority a new key."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(secrets, "token_hex", lambda _: "same")
        made = make_authority("CA", days=1), make_authority("CA", days=1)
    assert made[0].certificate.subject == made[1].certificate.subject
    return made


def ours() -> Authorities:
    return make_authority("CA", days=1), make_authority("CA", days=1)


async def echo(request: bytes, _: aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


@asynccontextmanager
async def grpc_server(files: Files) -> AsyncIterator[int]:
    server = aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("a.B", {"Echo": handler}),)
    )
    certificates = ServerCertificates(*files.pair("server"), files.path("ca.pem"))
    port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def by_grpc(files: Files, port: int) -> None:
    credentials = files.client().channel_credentials()
    # Of its own: gRPC would use one connection for channels alike.
    options = [*DIRECT, ("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a.B/Echo")
        assert await call(b"x", timeout=TIMEOUT_SECONDS) == b"x"


async def by_our_http2(files: Files, port: int) -> None:
    tls = files.client()
    context = context_of(tls.authorities(), tls.pair())
    async with asyncio.timeout(TIMEOUT_SECONDS):
        connection = await connect(Endpoint(f"127.0.0.1:{port}"), context, STATUS_DETAILS_KEY)
        connection.abort()
        await connection.closed


@asynccontextmanager
async def https_server(files: Files) -> AsyncIterator[int]:
    """As our HTTP servers: the context follows the files of the pair."""
    served = ServedContext(*files.pair("server"))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # a client that rejects the certificate
            await writer.start_tls(served())
            writer.write(b"x")
            await writer.drain()

    async with serving_tcp(answer) as (_, port):
        yield port


class OfHttps:
    """As our clients of HTTPS: what they trust and what they present follows the files."""

    def __init__(self, files: Files) -> None:
        self._identity = ClientIdentity(*files.pair("client"), Trust(files.path("ca.pem")))

    async def __call__(self, _: Files, port: int) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await writer.start_tls(self._identity.context(), server_hostname="127.0.0.1")
                assert await reader.read(1) == b"x"
            finally:
                writer.transport.abort()


@asynccontextmanager
async def redis_server(files: Files) -> AsyncIterator[int]:
    """Answers each command with OK, behind TLS of OpenSSL: it asks for a client's certificate."""

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.path("ca.pem"))
        made.load_cert_chain(*files.pair("server"))
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # a client that rejects the certificate
            await writer.start_tls(context())
            while received := await reader.read(4096):
                writer.write(b"+OK\r\n" * received.count(b"*"))

    async with serving_tcp(answer) as (_, port):
        yield port


async def by_redis(files: Files, port: int) -> None:
    certificate_file, key_file = files.pair("client")
    server = RedisServer(
        nodes=(("127.0.0.1", port),),
        tls=True,
        ca_file=files.path("ca.pem"),
        certificate_file=certificate_file,
        key_file=key_file,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    link = Link(server, retries=False)
    try:
        await link.ask("PING")
    finally:
        await link.close()


Server = Callable[[Files], AbstractAsyncContextManager[int]]
Connect = Callable[[Files, int], Awaitable[None]]
FAILURES = (aio.AioRpcError, AuthError, OSError)


@asynccontextmanager
async def opened(files: Files, kind: str) -> AsyncIterator[tuple[Connect, int]]:
    """What connects to a running server, and its port."""
    by_kind: dict[str, tuple[Server, Connect]] = {
        "grpc": (grpc_server, by_grpc),
        "http2": (grpc_server, by_our_http2),
        "https": (https_server, OfHttps(files)),
        "redis": (redis_server, by_redis),
    }
    server, connected = by_kind[kind]
    async with server(files) as port:
        yield connected, port


@pytest.mark.parametrize("kind", ["grpc", "http2", "https", "redis"])
@pytest.mark.parametrize("authorities", [ours, one_name])
async def test_an_authority_is_replaced_without_a_failed_connection(
    kind: str, authorities: Callable[[], Authorities], tmp_path: Path
) -> None:
    files = Files(tmp_path, authorities())
    old, new = files.old, files.new
    async with opened(files, kind) as (connected, port):
        await connected(files, port)
        for bundle in ((old, new), (new, old)):
            files.trust(*bundle)
            for of_server, of_client in itertools.product((old, new), repeat=2):
                files.sign("server", of_server)
                files.sign("client", of_client)
                await connected(files, port)
        files.trust(new)
        await connected(files, port)
        # The end is one: whoever still presents what the old authority has signed is rejected.
        files.sign("server", old)
        with pytest.raises(FAILURES):
            await connected(files, port)


def without_identifiers(authority: SignedCertificate) -> SignedCertificate:
    """The same authority as one made by hand: without extensions."""
    certificate, key = authority.certificate, authority.key
    builder = x509.CertificateBuilder(
        certificate.issuer,
        certificate.subject,
        key.public_key(),
        x509.random_serial_number(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return SignedCertificate(key, builder.sign(key, hashes.SHA256()))


def test_authorities_that_are_mistaken_for_each_other_are_reported() -> None:
    first, second = one_name()
    by_hand = tuple(map(without_identifiers, (first, second)))

    def reported(*authorities: SignedCertificate) -> int:
        lines = same_names(b"".join(it.certificate_pem() for it in authorities))
        assert all("the subject 'CA same', different keys" in line for line in lines)
        return len(lines)

    assert reported(first, second) == 0
    assert reported(first, first, by_hand[0]) == 0  # one key: signed twice, or written twice
    assert reported(*ours(), *map(without_identifiers, ours())) == 0
    assert reported(*by_hand) == 1
    assert reported(first, by_hand[1]) == reported(by_hand[1], first) == 1
    assert reported(*by_hand, without_identifiers(one_name()[0])) == 2


async def test_both_ends_log_authorities_that_are_mistaken_for_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path, one_name())
    files.trust(without_identifiers(files.old), without_identifiers(files.new))
    told = f"{files.path('ca.pem')}: two authorities have the subject"
    for use in (
        files.client().channel_credentials,
        ServerCertificates(*files.pair("server"), files.path("ca.pem")).credentials,
        lambda: Trust(files.path("ca.pem")),
    ):
        caplog.clear()
        use()
        assert [told in record.getMessage() for record in caplog.records] == [True]
