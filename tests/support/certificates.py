"""Certificates such as no careful authority signs."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

_IA5_TAGS = {"mail": 0x81, "dns": 0x82, "uri": 0x86, "ip": 0x87}


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Authority:
    """An authority that signs any name, by its bytes."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    def pem(self) -> bytes:
        """Its own certificate."""
        built = _builder(_named("careless CA"), self.key, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return _pem(built.sign(self.key, hashes.SHA256()))

    def signed(
        self, names: Iterable[tuple[str, bytes]], *, common_name: str = "client"
    ) -> tuple[bytes, bytes]:
        """A client's certificate with these subject alternative names, and its key, as PEM."""
        return self.with_extensions([alternative_names(names)], common_name=common_name)

    def with_extensions(
        self, extensions: Iterable[x509.UnrecognizedExtension], *, common_name: str = "client"
    ) -> tuple[bytes, bytes]:
        """As ``signed``, with extensions that may repeat each other."""
        key = _key()
        builder = _builder(_named(common_name), key, self.key).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        for extension in extensions:
            # Its own method refuses a second one of a kind.
            builder._extensions.append(x509.Extension(extension.oid, False, extension))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return _pem(builder.sign(self.key, hashes.SHA256())), private

    def write(self, folder: Path, name: str, names: Iterable[tuple[str, bytes]]) -> None:
        """Write ``NAME.pem`` and ``NAME.key``."""
        certificate, key = self.signed(names)
        (folder / f"{name}.pem").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)


def alternative_names(names: Iterable[tuple[str, bytes]]) -> x509.UnrecognizedExtension:
    """The extension, byte by byte: each name by its kind, whatever is in it."""
    content = b"".join(_tlv(_IA5_TAGS[kind], name) for kind, name in names)
    oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    return x509.UnrecognizedExtension(oid, _tlv(0x30, content))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_named("careless CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
            critical=False,
        )
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
