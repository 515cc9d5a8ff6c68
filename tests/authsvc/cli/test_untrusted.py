"""What a command says where the server's certificate is not accepted, or no authsvc listens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509

from authsvc.cli.failing import Unreachable, errors_explained
from authsvc.client import ClientTls
from authsvc.diagnosis.presented import why_untrusted
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.certificates import SignedCertificate, issue, make_authority

pytestmark = pytest.mark.anyio

UNVERIFIED = "SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: it failed"
HERE = x509.IPAddress(IPv4Address("127.0.0.1"))
AUTHORITY, OTHER = (make_authority(title, days=1) for title in ("the authority", "another"))


@asynccontextmanager
async def presenting(folder: Path, certificate: SignedCertificate) -> AsyncIterator[str]:
    """The address of a server with this certificate, which answers nothing."""
    path = folder / "server.pem"
    path.write_bytes(certificate.key_pem() + certificate.certificate_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def said(target: str, tls: ClientTls | None, detail: str) -> str:
    with pytest.raises(Unreachable) as failure, errors_explained(target, tls):
        raise AuthError(Reason.SERVICE_UNAVAILABLE, detail)
    first, _, rest = failure.value.message.partition("\n")
    assert first == f"SERVICE_UNAVAILABLE: {detail}"
    return rest


async def explained(
    folder: Path, certificate: SignedCertificate, address: str = "", detail: str = UNVERIFIED
) -> str:
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(AUTHORITY.certificate_pem())
    async with presenting(folder, certificate) as there:
        text = await asyncio.to_thread(said, address or there, ClientTls(ca_file), detail)
        return text.replace(there, "THERE")


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        (issue(OTHER, "them", [HERE], days=1), "is not signed by an authority in --ca-file"),
        (issue(AUTHORITY, "them", [HERE], days=-0.001), "expired on 20"),
        # What has expired says so, whoever signed it.
        (issue(OTHER, "them", [HERE], days=-0.001), "expired on 20"),
        (
            issue(AUTHORITY, "them", [x509.DNSName("x.example")], days=1),
            "is for x.example, and",
        ),
    ],
    ids=["another authority", "expired", "expired and another", "another name"],
)
async def test_why_a_certificate_is_not_accepted(
    tmp_path: Path, certificate: SignedCertificate, says: str
) -> None:
    text = await explained(tmp_path, certificate)
    assert text.startswith(f"The certificate at THERE {says}")
    if "for x.example" in says:
        return
    assert "It presents: subject CN=them, issuer CN=" in text
    assert ", SHA-256 " in text
    if "signed" in says:
        ours = AUTHORITY.certificate.subject.rfc4514_string()
        assert f"(ca_file) {tmp_path}/ca.pem: " in text
        assert text.endswith(f"--ca-file has: {ours}")


async def test_another_name_is_what_grpc_rejects_by_itself(tmp_path: Path) -> None:
    elsewhere = issue(AUTHORITY, "them", [x509.DNSName("x.example")], days=1)
    detail = "Hostname Verification Check failed."
    text = await explained(tmp_path, elsewhere, detail=detail)
    assert text.startswith("The certificate at THERE is for x.example, and not for 127.0.0.1: ")


async def test_the_name_that_was_given_is_the_one_that_counts(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.certificate_pem())
    async with presenting(tmp_path, issue(AUTHORITY, "them", [HERE], days=1)) as there:
        text = await why_untrusted(there, ClientTls(tmp_path / "ca.pem"), "x.example")
    assert text.endswith(" is for 127.0.0.1, and not for x.example: correct --name.")


async def test_names_in_a_certificate_stay_on_their_line(tmp_path: Path) -> None:
    hostile = issue(OTHER, "them\n--ca-file has: it\x1b[31m", [HERE], days=1)
    text = await explained(tmp_path, hostile)
    assert r"subject CN=them\n--ca-file has: it\x1b[31m, issuer" in text
    assert len(text.splitlines()) == 3


async def test_what_cannot_be_found_out_is_left_open(tmp_path: Path) -> None:
    valid = issue(AUTHORITY, "them", [HERE], days=1)
    for address in ("", "127.0.0.1:1", "unix:/nonexistent/socket"):
        text = await explained(tmp_path, valid, address)
        assert "is not signed by an authority in --ca-file (ca_file), has expired, or" in text


@pytest.mark.parametrize(
    ("detail", "says"),
    [
        ("Failed parsing HTTP/2 (Expected SETTINGS frame)", "does not speak gRPC in the clear"),
        ("OPENSSL_internal:WRONG_VERSION_NUMBER: x", "does not speak TLS"),
        ("Cannot check peer: missing selected ALPN property.", "speaks TLS, and no gRPC"),
    ],
)
def test_what_speaks_no_grpc_is_named(detail: str, says: str) -> None:
    assert said("127.0.0.1:80", None, detail).startswith(f"What listens at 127.0.0.1:80 {says}")
