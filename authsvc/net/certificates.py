"""Makes certificates, and finds what strict verifiers reject in one.

Strict is what RFC 5280 asks of certificates and OpenSSL checks under ``X509_V_FLAG_X509_STRICT``:
Python's default contexts set that flag from 3.13 on.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATED = datetime.timedelta(minutes=5)
"""For verifiers whose clock is slow."""


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate and its private key.

    Attributes:
        key: ECDSA over P-256.
        certificate: signed by itself or by an authority.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"SignedCertificate({self.certificate.subject.rfc4514_string()})"

    def key_pem(self) -> bytes:
        """The private key, PKCS #8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def certificate_pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(title: str, *, days: float) -> SignedCertificate:
    """An authority that can sign certificates of end entities, and none of another authority.

    Args:
        title: its common name; a random part is added, so that no two authorities have the same
            subject.
        days: until it expires.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _common_name(f"{title} {secrets.token_hex(4)}")
    builder = (
        _builder(subject, subject, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    return SignedCertificate(key, builder.sign(key, hashes.SHA256()))


def issue(
    authority: SignedCertificate,
    title: str,
    names: Sequence[x509.GeneralName],
    *,
    days: float,
    client: bool = False,
) -> SignedCertificate:
    """A certificate of an end entity, with a new key.

    Args:
        authority: its issuer.
        title: its common name.
        names: its subject alternative names; at least one.
        days: until it expires.
        client: whether a client may present it, too.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    if client:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = (
        _builder(_common_name(title), authority.certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_issuer_identifier(authority), critical=False)
    )
    return SignedCertificate(key, builder.sign(authority.key, hashes.SHA256()))


def strict_faults(certificate: x509.Certificate) -> list[str]:
    """What strict verifiers reject in a certificate; empty where they accept it.

    Covers the extensions that certificates made by hand or by older tools lack. No chain is
    verified.
    """
    present = {extension.oid: extension for extension in certificate.extensions}
    faults = []
    self_issued = certificate.issuer == certificate.subject
    if not self_issued and x509.OID_AUTHORITY_KEY_IDENTIFIER not in present:
        faults.append("no authority key identifier")
    constraints = present.get(x509.OID_BASIC_CONSTRAINTS)
    if constraints is not None and constraints.value.ca:
        if not constraints.critical:
            faults.append("basic constraints not critical")
        if x509.OID_KEY_USAGE not in present:
            faults.append("no key usage")
        if x509.OID_SUBJECT_KEY_IDENTIFIER not in present:
            faults.append("no subject key identifier")
    return faults


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issuer_identifier(authority: SignedCertificate) -> x509.AuthorityKeyIdentifier:
    try:
        found = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        # An older authority has no key identifier: the usual digest of its key is used instead.
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
