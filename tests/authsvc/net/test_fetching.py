"""Fetches over real TLS: certificates, names that resolve elsewhere, and permitted addresses."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import json
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.net import fetching
from authsvc.net.certificates import SignedCertificate, make_authority
from authsvc.net.fetching import MAX_DOCUMENT_BYTES, MAX_ERROR_BYTES, Fetcher, FetchError
from authsvc.net.public_addresses import is_public
from authsvc.net.trust import tls_context
from authsvc.tokens.discovery import fetch_discovered
from authsvc.tokens.keys import KeyLoadError
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, Site, serving_http
from tests.support.keys import jwks, signer
from tests.support.sockets import serving_tcp

pytestmark = pytest.mark.anyio

INSIDE = Fetcher(allow_private_addresses=True)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        running.answers["/jwks"] = Answer(jwks(signer("k1")))
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """PEM of a key and a certificate for idp.example and for the address 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp.example")])
    names = [x509.DNSName("idp.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "idp.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


class SecureSite:
    """An HTTPS server whose responses a test sets."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, bytes] = {}
        self.hosts: list[str] = []
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = request.split(" ")[1]
        self.hosts += [
            line.partition(": ")[2] for line in request.splitlines() if line.startswith("Host: ")
        ]
        if path in self.answers:
            self.asked.append(path)
        status = b"200 OK" if path in self.answers else b"404 Not Found"
        body = self.answers.get(path, b"")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def secure_site(certificate: Path) -> AsyncIterator[SecureSite]:
    site = SecureSite()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serving_tcp(site.answer, tls=context) as address:
        site.port = address[1]
        yield site


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[SecureSite]:
    async with secure_site(certificate) as site:
        yield site


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust in that certificate."""
    context = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(fetching, "tls_context", lambda: context)


@pytest.fixture
async def lead(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses that names resolve to, for a test to set; an address resolves to itself."""
    led: dict[str, list[str]] = {}

    async def resolved(host: str, port: int, **how: object) -> list[object]:
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, port))
            for address in led.get(host, [host])
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    return led


async def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(FetchError) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await fetcher.get(url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "status"), [("/gone", 404), ("/busy", 503), ("/busy: answered 400", 503)]
)
async def test_an_error_carries_the_status_of_the_answer(
    site: Site, path: str, status: int
) -> None:
    site.answers[path.replace(" ", "%20")] = Answer(status=status)
    with pytest.raises(FetchError) as caught:
        await Fetcher().get(site.url + path.replace(" ", "%20"))
    assert caught.value.status == status


async def test_an_error_without_an_answer_has_no_status() -> None:
    with pytest.raises(FetchError) as caught:
        await Fetcher().get("http://127.0.0.1:1/x: answered 400".replace(" ", "%20"))
    assert caught.value.status is None


async def test_a_certificate_that_is_not_strict_enough_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority("CA", days=1)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    lax = (
        x509.CertificateBuilder(
            authority.certificate.subject,
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")]),
            key.public_key(),
            x509.random_serial_number(),
        )
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    signed = SignedCertificate(key, lax)
    (tmp_path / "lax.pem").write_bytes(signed.key_pem() + signed.certificate_pem())
    strict = ssl.create_default_context(cadata=authority.certificate_pem().decode())
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(fetching, "tls_context", lambda: strict)
    async with secure_site(tmp_path / "lax.pem") as site:
        told = await refused(INSIDE, f"https://127.0.0.1:{site.port}/jwks")
        assert "certificate verify failed: Missing Authority Key Identifier" in told
        assert site.hosts == []


@pytest.mark.usefixtures("trusted")
async def test_the_certificate_is_for_the_name_and_not_for_the_address(
    secure: SecureSite, lead: dict[str, list[str]]
) -> None:
    lead["idp.example"] = lead["other.example"] = ["127.0.0.1"]
    secure.answers["/jwks"] = b"{}"
    body, _ = await INSIDE.get(f"https://idp.example:{secure.port}/jwks")
    assert body == b"{}"
    assert secure.hosts == [f"idp.example:{secure.port}"]
    # The certificate names the address that is connected to, which is neither here nor there.
    told = await refused(INSIDE, f"https://other.example:{secure.port}/jwks")
    assert "ConnectError: certificate verify failed: Hostname mismatch" in told
    assert len(secure.hosts) == 1


async def test_a_certificate_of_an_unknown_authority_is_rejected(
    secure: SecureSite, lead: dict[str, list[str]]
) -> None:
    lead["idp.example"] = ["127.0.0.1"]
    assert "ConnectError" in await refused(INSIDE, f"https://idp.example:{secure.port}/jwks")
    assert secure.hosts == []


def test_trust_is_loaded_once() -> None:
    assert tls_context() is tls_context()
    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    assert tls_context().check_hostname


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("allow", [False, True])
async def test_remote_metadata_cannot_name_this_machine(
    secure: SecureSite,
    lead: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    *,
    allow: bool,
) -> None:
    issuer = f"https://idp.example:{secure.port}"
    lead["idp.example"] = ["127.0.0.1"]
    # The issuer's address counts as public, so that it is reached with either setting.
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    for scheme in ("http", "https"):
        secure.answers["/.well-known/openid-configuration"] = json.dumps(
            {"issuer": issuer, "jwks_uri": f"{scheme}://{host}:{secure.port}/jwks"}
        ).encode()
        with pytest.raises(KeyLoadError, match="leads to this machine"):
            await fetch_discovered(Fetcher(allow), issuer, ("ES256",))
    assert secure.asked == ["/.well-known/openid-configuration"] * 2


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"],  # noqa: S104
)
async def test_remote_metadata_cannot_name_a_host_that_is_this_machine(
    secure: SecureSite, lead: dict[str, list[str]], address: str
) -> None:
    """Even where private addresses are permitted; but the configured host may be."""
    issuer = f"https://idp.example:{secure.port}"
    lead["idp.example"], lead["keys.example"] = ["127.0.0.1"], ["10.0.0.1", address]
    path = "/.well-known/openid-configuration"
    for host in ("keys.example", "keys.example."):
        lead[host] = lead["keys.example"]
        metadata = {"issuer": issuer, "jwks_uri": f"https://{host}:{secure.port}/jwks"}
        secure.answers[path] = json.dumps(metadata).encode()
        with pytest.raises(KeyLoadError, match="leads to this machine"):
            await fetch_discovered(INSIDE, issuer, ("ES256",))
    secure.answers[path] = json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/jwks"}).encode()
    secure.answers["/jwks"] = jwks(signer("k1"))
    assert len((await fetch_discovered(INSIDE, issuer, ("ES256",))).keys.keys) == 1


async def test_one_unreachable_address_of_several_does_not_matter(
    site: Site, lead: dict[str, list[str]]
) -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        dead_port = taken.getsockname()[1]
    port = int(site.url.rpartition(":")[2])
    lead["localhost"] = ["127.0.0.2", "127.0.0.1"]
    await Fetcher().get(f"http://localhost:{port}/jwks")
    assert site.requests == ["/jwks"]
    assert "ConnectError" in await refused(Fetcher(), f"http://localhost:{dead_port}/jwks")


async def test_one_private_address_among_public_ones_rejects_them_all(
    lead: dict[str, list[str]],
) -> None:
    lead["idp.example"] = ["8.8.8.8", "10.0.0.1"]
    assert "10.0.0.1 is not public" in await refused(Fetcher(), "https://idp.example/jwks")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("64:ff9b::808:808", True),  # 8.8.8.8 through NAT64
        ("64:ff9b::a9fe:a9fe", False),  # 169.254.169.254 through NAT64
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::1", False),
        ("2002:a9fe:a9fe::1", False),  # 6to4
        ("::ffff:10.0.0.1", False),
        ("::7f00:1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("fd00:ec2::254", False),
        ("::", False),
        ("::1", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("100.100.100.200", False),
        ("198.18.0.1", False),
        ("239.255.255.250", False),
        ("255.255.255.255", False),
    ],
)
def test_which_addresses_are_public(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("host", ["b\u00fccher.example", "\uff11\uff12\uff17.0.0.1", "\ud800"])
async def test_a_name_that_is_not_ascii_is_an_error_of_ours(host: str) -> None:
    assert "is not ASCII" in await refused(INSIDE, f"https://{host}/jwks")


BOMB = gzip.compress(b" " * (64 * MAX_DOCUMENT_BYTES))


@pytest.mark.parametrize(
    ("encoding", "body", "complaint"),
    [
        ("gzip", BOMB, "longer than"),
        ("X-GZip", BOMB, "longer than"),
        ("gzip, gzip", gzip.compress(BOMB), "content coding 'gzip, gzip'"),
        ("br", b"", "content coding 'br'"),
        ("deflate", zlib.compress(b"{}"), "content coding 'deflate'"),
        ("gzip", b"{}", "is not gzip"),
        ("gzip", gzip.compress(b"{}")[:-1], "ends before its gzip does"),
        ("gzip", b"", "ends before its gzip does"),
        ("gzip", gzip.compress(b"{}") + b"{}", "goes on after its gzip"),
        ("gzip", gzip.compress(b"{}") + gzip.compress(b"{}"), "goes on after its gzip"),
    ],
    ids=[
        "gzip",
        "x-gzip",
        "twice",
        "br",
        "deflate",
        "not gzip",
        "cut short",
        "empty",
        "rubbish after it",
        "two members",
    ],
)
async def test_a_packed_body_is_bounded_while_it_is_unpacked(
    site: Site, encoding: str, body: bytes, complaint: str
) -> None:
    assert len(body) < MAX_DOCUMENT_BYTES
    site.answers["/jwks"] = Answer(body, headers={"Content-Encoding": encoding})
    await refused(Fetcher(), f"{site.url}/jwks")  # what a first request imports is not its own
    tracemalloc.start()
    try:
        assert complaint in await refused(Fetcher(), f"{site.url}/jwks")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_DOCUMENT_BYTES


async def test_no_coding_is_requested_and_gzip_is_read(site: Site) -> None:
    packed = gzip.compress(b"{}")
    plain = ("identity", "", "UTF-8", "aws-chunked", "identity, utf-8")
    for encoding, body in (
        *((coding, b"{}") for coding in plain),
        ("gzip", packed),
        ("gzip,aws-chunked", packed),
    ):
        site.answers["/it"] = Answer(body, headers={"Content-Encoding": encoding})
        assert (await Fetcher().post(f"{site.url}/it", {}, {}))[0] == b"{}"
    assert {headers["Accept-Encoding"] for headers, _ in site.posted} == {"identity"}


async def test_an_endless_error_is_left_after_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 1_000)
                await writer.drain()
        except OSError:
            writer.close()

    monkeypatch.setattr(fetching, "ERROR_BODY_SECONDS", TIMEOUT_SECONDS)
    async with serving_tcp(serve) as (host, port):
        with pytest.raises(FetchError) as caught:
            await Fetcher().post(f"http://{host}:{port}/token", {"a": "b"}, {})
    assert caught.value.status == 400
    assert caught.value.body == b"x" * MAX_ERROR_BYTES


async def test_a_slow_error_keeps_its_status(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "ERROR_BODY_SECONDS", 0.05)
    site.answers["/token"] = Answer(b"", 401, {"Retry-After": "9"}, until=threading.Event())
    with pytest.raises(FetchError) as caught:
        await Fetcher().post(f"{site.url}/token", {"a": "b"}, {})
    assert (caught.value.status, caught.value.retry_after) == (401, "9")


async def test_an_error_of_a_document_is_not_read(site: Site) -> None:
    site.answers["/jwks"] = Answer(b"no such set", 404)
    with pytest.raises(FetchError) as caught:
        await Fetcher().get(f"{site.url}/jwks")
    assert (caught.value.status, caught.value.body) == (404, b"")


# Documents that are sent.


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_document_is_sent(site: Site, status: int) -> None:
    site.answers["/poll"] = Answer(b"" if status == 204 else b"{}", status)
    body, _ = await Fetcher().post_json(f"{site.url}/poll", b'{"a": 1}', {"Authorization": "x"})
    assert body == (b"" if status == 204 else b"{}")
    ((headers, sent),) = site.posted
    assert sent == '{"a": 1}'
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "x"


async def test_an_error_is_answered_to_a_document(site: Site) -> None:
    site.answers["/poll"] = Answer(b'{"err": "x"}', 403)
    with pytest.raises(FetchError, match="answered 403") as caught:
        await Fetcher().post_json(f"{site.url}/poll", b'{"secret": 1}', {})
    assert caught.value.body == b'{"err": "x"}'
    assert "secret" not in str(caught.value)


async def test_a_document_has_its_own_time(site: Site) -> None:
    site.hold.clear()
    with pytest.raises(FetchError, match=r"no answer in 0\.1 seconds"):
        await Fetcher().post_json(f"{site.url}/poll", b"{}", {}, timeout_seconds=0.1)
