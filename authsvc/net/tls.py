"""The server's certificates, which follow their files while it runs."""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authsvc.net.certificates import make_authority
from authsvc.net.pem import read_by_openssl, trusted_certificates
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

_Line = tuple[int, str]
"""A line for the log: its level, and its text."""


@dataclass(frozen=True, slots=True)
class ServerCertificates:
    """The files of the server's certificate, and of the authorities of its clients' certificates.

    Attributes:
        certificate_file: PEM chain, its own first.
        key_file: PEM key.
        client_ca_file: PEM authorities; None where clients present no certificate.
    """

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files. A changed file takes effect for new connections within
        ``WATCH_INTERVAL_SECONDS``.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file does not hold what it should.
        """
        served = _Served(self)
        return grpc.dynamic_ssl_server_credentials(
            served.configuration,
            served.changed,  # type: ignore[arg-type] # None is "unchanged"; the stubs omit it
            self.client_ca_file is not None,
        )

    def files(self) -> tuple[Path, ...]:
        """All of them."""
        files = (self.certificate_file, self.key_file, self.client_ca_file)
        return tuple(path for path in files if path is not None)


class _Served:
    """The certificates in use, which follow their files.

    The pair and the authorities are reloaded independently: while a pair is half replaced, an
    authority that was removed is not trusted any more.
    """

    def __init__(self, certificates: ServerCertificates) -> None:
        self._certificates = certificates
        self._files = WatchedFile(*certificates.files())
        self._pair = self._load_pair()
        self._authorities, skipped = self._load_authorities()
        self._lines: NewEntries[_Line] = NewEntries()
        self._report(skipped)
        self.configuration = self._configuration()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """A newer configuration, or None: gRPC asks before each handshake."""
        if not self._files.changed(time.monotonic()):
            return None
        before = self._pair, self._authorities
        # While a file is half written, the old certificates stay in use.
        failures: list[_Line] = []
        skipped: list[_Line] = []
        try:
            self._pair = self._load_pair()
        except (OSError, ValueError) as error:
            failures.append((logging.ERROR, f"certificates cannot be reloaded: {error}"))
        try:
            self._authorities, skipped = self._load_authorities()
        except (OSError, ValueError) as error:
            text = f"client_ca_file cannot be reloaded, the old one stays in use: {error}"
            failures.append((logging.ERROR, text))
        self._report([*failures, *skipped])
        if not failures:
            self._files.mark_read()
        if (self._pair, self._authorities) == before:
            return None
        self.configuration = self._configuration()
        log.info("certificates reloaded")
        return self.configuration

    def _report(self, lines: list[_Line]) -> None:
        """Log each fault once, not at each handshake: unauthenticated peers can cause any number of
        them."""
        for level, text in self._lines.of(lines):
            log.log(level, "%s", text)

    def _load_pair(self) -> tuple[bytes, bytes]:
        chain = self._certificates.certificate_file.read_bytes()
        key = self._certificates.key_file.read_bytes()
        _check_pair(chain, key)
        return key, chain

    def _load_authorities(self) -> tuple[bytes | None, list[_Line]]:
        path = self._certificates.client_ca_file
        return (None, []) if path is None else _authorities(path)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authorities = self._authorities and _placeholder() + self._authorities
        return grpc.ssl_server_certificate_configuration([self._pair], authorities)


@functools.cache
def _placeholder() -> bytes:
    """The certificate of an authority whose key nobody has.

    gRPC ignores a new configuration as a whole, without an error, if it cannot read the first
    certificate: then a removed authority stays trusted. It reads this one, whatever follows.
    """
    return make_authority("placeholder", days=1).certificate_pem()


def _authorities(path: Path) -> tuple[bytes, list[_Line]]:
    """The certificates of a bundle, and lines for the log about those that are skipped.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no certificate.
    """
    readable, skipped = trusted_certificates(path.read_bytes(), _strictly_read)
    if not readable:
        raise ValueError(f"{path} holds no certificate")
    return readable, [(logging.WARNING, f"{path}: {text}") for text in skipped]


def _strictly_read(pem: str) -> str:
    """One certificate, encoded anew: gRPC's parser is stricter than either that is used here.

    Raises:
        ValueError: it is no DER certificate of version 1 or 3.
    """
    read_by_openssl(pem)
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None
    if certificate.version is x509.Version.v1 and len(certificate.extensions):
        raise ValueError("version 1 has no extensions")
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


_KEYS = (rsa.RSAPublicKey, ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def _check_pair(chain: bytes, key: bytes) -> None:
    """
    Raises:
        ValueError: they are not a certificate and its key, or of a kind that gRPC does not serve.
            gRPC would find out at the first handshake, and not report it.
    """
    try:
        private = serialization.load_pem_private_key(key, None).public_key()
        public = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (TypeError, ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise ValueError("certificate_file or key_file is not PEM, or cannot be read") from None
    if public != private:
        raise ValueError("key_file is not the key of certificate_file")
    is_served = isinstance(public, _KEYS)
    if isinstance(public, ec.EllipticCurvePublicKey):
        is_served = isinstance(public.curve, _CURVES)
    if not is_served:
        raise ValueError("certificate_file has no RSA, Ed25519, P-256, P-384 or P-521 key")
