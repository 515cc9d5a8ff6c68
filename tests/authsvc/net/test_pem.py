"""Bundles of certificates, where some entries cannot be read."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsvc.net.certificates import make_authority
from authsvc.net.pem import readable_certificates

UNREADABLE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("content", ["", "AAAA", "A\u00c4AA", "no base64!"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_unreadable_certificate_is_skipped_wherever_it_is(content: str, place: int) -> None:
    made = [make_authority(f"CA {number}", days=1).certificate for number in range(2)]
    pems = [one.public_bytes(Encoding.PEM) for one in made]
    entries = [b"# a comment\n" + pem for pem in pems]
    entries.insert(place, UNREADABLE.format(content).encode())
    readable, skipped = readable_certificates(b"".join(entries))
    assert x509.load_pem_x509_certificates(readable) == made
    (text,) = skipped
    assert text.startswith(f"skipped certificate {place + 1}: it cannot be read: ")


def test_a_certificate_may_be_there_twice() -> None:
    pem = make_authority("CA", days=1).certificate_pem()
    readable, skipped = readable_certificates(pem + pem)
    assert (len(x509.load_pem_x509_certificates(readable)), skipped) == (2, [])


@pytest.mark.parametrize("bundle", [b"", b"rubbish", b"\xff\x00", b"-----BEGIN CERTIFICATE-----"])
def test_a_bundle_may_hold_none(bundle: bytes) -> None:
    assert readable_certificates(bundle)[0] == b""
