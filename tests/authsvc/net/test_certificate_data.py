"""Certificates are read as cryptography reads them, and what is none is an error of one kind."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding

from authsvc.net.certificate_data import read_certificates
from authsvc.net.certificates import SignedCertificate, issue, make_authority

AUTHORITY = make_authority("Ünï CA", days=1)
SERVER = issue(AUTHORITY, "server", [x509.DNSName("localhost")], days=1)


def dated(begins: int, ends: int) -> SignedCertificate:
    """The authority with other years, and without extensions."""
    name = AUTHORITY.certificate.subject
    builder = x509.CertificateBuilder(name, name, AUTHORITY.key.public_key(), 1)
    first = datetime.datetime(begins, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    builder = builder.not_valid_before(first).not_valid_after(first.replace(year=ends))
    return SignedCertificate(AUTHORITY.key, builder.sign(AUTHORITY.key, hashes.SHA256()))


@pytest.mark.parametrize(
    "signed", [AUTHORITY, SERVER, dated(1950, 1999), dated(2000, 2049), dated(2049, 2050)]
)
def test_a_certificate_as_cryptography_reads_it(signed: SignedCertificate) -> None:
    (read,) = read_certificates(b"# a comment\n" + signed.certificate_pem() + signed.key_pem())
    certificate = signed.certificate
    assert read.begins == certificate.not_valid_before_utc.timestamp()
    assert read.ends == certificate.not_valid_after_utc.timestamp()
    assert read.subject in certificate.subject.public_bytes()
    assert read.issuer in certificate.issuer.public_bytes()
    assert read.key in certificate.public_key().public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    by_kind = {it.oid: it.value for it in certificate.extensions}
    assert read.names_issuers_key == (x509.OID_AUTHORITY_KEY_IDENTIFIER in by_kind)
    identifier = by_kind.get(x509.OID_SUBJECT_KEY_IDENTIFIER)
    assert read.key_identifier == (
        identifier.digest if isinstance(identifier, x509.SubjectKeyIdentifier) else None
    )


def test_certificates_in_their_order() -> None:
    both = SERVER.certificate_pem() + AUTHORITY.certificate_pem()
    assert [it.key for it in read_certificates(both)] == [
        it.key
        for signed in (SERVER, AUTHORITY)
        for it in read_certificates(signed.certificate_pem())
    ]


def test_what_is_no_certificate_is_a_value_error() -> None:
    der = SERVER.certificate.public_bytes(Encoding.DER)
    cut = [der[:end] for end in range(len(der))]
    changed = [der[:at] + bytes((der[at] ^ 0x35,)) + der[at + 1 :] for at in range(len(der))]
    # A length of 0, among others: of extensions that are none.
    changed += [der[:at] + b"\x00" + der[at + 1 :] for at in range(len(der))]
    for data in (*cut, *changed, b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", b"\x30"):
        text = base64.encodebytes(data)
        pem = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
        try:
            read_certificates(pem)
        except ValueError:
            continue
        assert data in changed  # a bit of a name, of a key or of the signature
    for content in (b"", b"rubbish", SERVER.key_pem(), b"-----BEGIN CERTIFICATE-----\n"):
        with pytest.raises(ValueError, match="it holds no certificate"):
            read_certificates(content)


def test_blocks_without_an_end_are_read_in_linear_time() -> None:
    """A quadratic search for their ends would take minutes, far beyond the limit of a test."""
    endless = b"-----BEGIN CERTIFICATE-----\nAAAA\n" * 30_000
    with pytest.raises(ValueError, match="it holds no certificate"):
        read_certificates(endless)
    assert len(read_certificates(endless + SERVER.certificate_pem())) == 1
