"""Certificates that authsvc makes, under the strict verification of newer Pythons."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from authsvc.net.certificates import SignedCertificate, issue, make_authority, strict_faults
from authsvc.net.development_certificates import write_development_certificates
from tests.support.handshakes import handshake

LOCALHOST = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1")))


def written(folder: Path, name: str, signed: SignedCertificate) -> tuple[Path, Path]:
    paths = (folder / f"{name}.pem", folder / f"{name}.key")
    paths[0].write_bytes(signed.certificate_pem())
    paths[1].write_bytes(signed.key_pem())
    return paths


def test_certificates_for_development_on_both_ends(tmp_path: Path) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/adapter")
    pairs = [(tmp_path / f"{name}.pem", tmp_path / f"{name}.key") for name in ("server", "client")]
    handshake(tmp_path / "ca.pem", pairs[0], pairs[1])
    for path in tmp_path.glob("*.pem"):
        assert strict_faults(x509.load_pem_x509_certificate(path.read_bytes())) == []


def test_no_two_authorities_have_one_subject(tmp_path: Path) -> None:
    authorities = [make_authority("CA", days=1) for _ in range(2)]
    first, second = (it.certificate.subject for it in authorities)
    assert first != second
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(it.certificate_pem() for it in authorities))
    for authority in authorities:
        signed = issue(authority, "server", LOCALHOST, days=1)
        handshake(both, written(tmp_path, "server", signed))


def test_a_servers_certificate_is_none_of_a_client(tmp_path: Path) -> None:
    authority = make_authority("CA", days=1)
    ca_file, _ = written(tmp_path, "ca", authority)
    server = written(tmp_path, "server", issue(authority, "server", LOCALHOST, days=1))
    with pytest.raises(ssl.SSLError):
        handshake(ca_file, server, server)


def test_an_issued_certificate_signs_no_other(tmp_path: Path) -> None:
    authority = make_authority("CA", days=1)
    ca_file, _ = written(tmp_path, "ca", authority)
    signed = issue(authority, "server", LOCALHOST, days=1)
    below = issue(signed, "below", LOCALHOST, days=1)
    chain, key = written(tmp_path, "below", below)
    chain.write_bytes(below.certificate_pem() + signed.certificate_pem())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ca_file, (chain, key))


def test_no_key_is_in_what_is_printed() -> None:
    authority = make_authority("CA", days=1)
    assert repr(authority).startswith("SignedCertificate(CN=CA ")
