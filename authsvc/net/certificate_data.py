"""What certificates say about themselves, by the standard library alone: clients have no other.

Nothing here verifies a certificate. Files are read that an operator has written.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

# Base64 has no hyphen. A search for the end of a block beyond it would be quadratic: blocks without
# an end, in a file of a MiB, would take minutes.
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")

_SEQUENCE = 0x30
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18

_SUBJECT_KEY_IDENTIFIER = bytes((0x55, 0x1D, 0x0E))
_AUTHORITY_KEY_IDENTIFIER = bytes((0x55, 0x1D, 0x23))
"""Encoded object identifiers: 2.5.29.14 and 2.5.29.35."""


@dataclass(frozen=True, slots=True)
class CertificateData:
    """Parts of one certificate (RFC 5280).

    Attributes:
        subject: the encoded name.
        issuer: the encoded name of the authority.
        key: the encoded public key, its algorithm included.
        begins: from when it is valid, in seconds since the epoch.
        ends: until when, likewise.
        key_identifier: of ``key``; None where it has none.
        names_issuers_key: whether it has an authority key identifier.
    """

    subject: bytes
    issuer: bytes
    key: bytes
    begins: float
    ends: float
    key_identifier: bytes | None
    names_issuers_key: bool


def read_certificates(pem: bytes) -> list[CertificateData]:
    """The certificates of a file, in its order; whatever else is in it is skipped.

    Raises:
        ValueError: one of them is no certificate, or there is none.
    """
    found = [_read(ssl.PEM_cert_to_DER_cert(_ascii(block))) for block in _BLOCK.findall(pem)]
    if not found:
        raise ValueError("it holds no certificate")
    return found


def same_names(bundle: bytes) -> list[str]:
    """The authorities of a bundle that verifiers mistake for each other; a line for the log each.

    A verifier looks for the authority of a certificate by its subject. Of several with one subject,
    it takes the one whose key identifier the certificate names. Without key identifiers that
    differ, gRPC and OpenSSL try one alone, and reject what the others have signed.

    Args:
        bundle: PEM; a certificate that cannot be read is left out.
    """
    lines = []
    certificates: list[CertificateData] = []
    for block in _BLOCK.findall(bundle):
        try:
            (certificate,) = read_certificates(block)
        except ValueError:
            continue
        if any(_is_mistaken(certificate, earlier) for earlier in certificates):
            lines.append(
                f"two authorities have the subject {_name(certificate.subject)!r}, different keys, "
                "and no subject key identifiers that differ: what one of them has signed is "
                "rejected. Have the newer one issued with a subject of its own"
            )
        certificates.append(certificate)
    return lines


def _is_mistaken(one: CertificateData, other: CertificateData) -> bool:
    identifiers = {one.key_identifier, other.key_identifier}
    has_own_identifiers = len(identifiers) > 1 and None not in identifiers
    return one.subject == other.subject and one.key != other.key and not has_own_identifiers


def _name(encoded: bytes) -> str:
    """The values of a name: ``Example, Example CA``."""
    values = []
    for _, attributes in _parts(encoded):
        for _, attribute in _parts(attributes):
            _, (_, value) = _parts(attribute)
            values.append(value.decode("utf-8", "replace"))
    return ", ".join(values)


def _ascii(block: bytes) -> str:
    try:
        return block.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("a certificate is not PEM") from None


def _read(der: bytes) -> CertificateData:
    try:
        (_, certificate), *_ = _parts(der)
        (tag, signed), *_ = _parts(certificate)
        if tag != _SEQUENCE:
            raise ValueError("it is no certificate")
        parts = list(_parts(signed))
        if parts[0][0] == _VERSION:
            del parts[0]
        _, _, (_, issuer), (_, validity), (_, subject), (_, key), *optional = parts
        begins, ends = (_time(tag, content) for tag, content in _parts(validity))
        _name(subject)  # it can be read
        extensions = dict(_extensions(optional))
        identifier = extensions.get(_SUBJECT_KEY_IDENTIFIER)
        return CertificateData(
            subject=subject,
            issuer=issuer,
            key=key,
            begins=begins,
            ends=ends,
            key_identifier=None if identifier is None else next(_parts(identifier))[1],
            names_issuers_key=_AUTHORITY_KEY_IDENTIFIER in extensions,
        )
    except (IndexError, StopIteration):
        raise ValueError("a certificate is not complete") from None


def _extensions(optional: list[tuple[int, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for tag, content in optional:
        if tag == _EXTENSIONS:
            # Not by ``next``, whose StopIteration a generator raises as RuntimeError.
            ((_, listed),) = _parts(content)
            for _, extension in _parts(listed):
                # Between them is whether it is critical, unless it is not.
                (_, identifier), *_, (_, value) = _parts(extension)
                yield identifier, value


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each element of DER.

    Raises:
        IndexError: the data ends within one.
    """
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise IndexError
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:
        # RFC 5280 section 4.1.2.5.1: 50 to 99 are of the last century.
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("its dates cannot be read")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
