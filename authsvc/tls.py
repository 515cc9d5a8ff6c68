"""Certificates for both ends of a connection, and for development."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authsvc.certificates import issue, make_authority

log = logging.getLogger(__name__)

DEVELOPMENT_DAYS = 30
"""How long certificates for development last."""


@dataclass(frozen=True, slots=True)
class ServerCertificates:
    """The server's own certificate, and the authority of its clients'.

    Attributes:
        certificate_file: PEM chain, its own first.
        key_file: PEM key.
        client_ca_file: PEM authorities; None where clients show no certificate.
    """

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files: a changed one counts from the next connection on.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is not what it should be.
        """
        served = _Served(self)
        return grpc.dynamic_ssl_server_credentials(
            served.configuration,
            served.changed,  # type: ignore[arg-type] # None is "unchanged"; the stubs forgot it
            self.client_ca_file is not None,
        )

    def files(self) -> tuple[Path, ...]:
        """All of them."""
        files = (self.certificate_file, self.key_file, self.client_ca_file)
        return tuple(path for path in files if path is not None)


class _Served:
    """What is served now, and whether the files hold something newer."""

    def __init__(self, certificates: ServerCertificates) -> None:
        self._certificates = certificates
        self._stamp = self._stamped()
        self.configuration = self._load()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """A newer configuration, or None: gRPC asks before each handshake."""
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                return None
            loaded = self._load()
        except (OSError, ValueError) as error:
            # Half-written files are no reason to turn anybody away: the old ones go on.
            log.error("certificates cannot be reloaded: %s", error)
            return None
        self._stamp = stamp
        self.configuration = loaded
        log.info("certificates reloaded")
        return loaded

    def _stamped(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in self._certificates.files()]
        return tuple((item.st_mtime_ns, item.st_ino) for item in stats)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        chain = self._certificates.certificate_file.read_bytes()
        key = self._certificates.key_file.read_bytes()
        authority = self._certificates.client_ca_file
        _check_pair(chain, key)
        return grpc.ssl_server_certificate_configuration(
            [(key, chain)], authority.read_bytes() if authority else None
        )


def _check_pair(chain: bytes, key: bytes) -> None:
    """
    Raises:
        ValueError: they are not a certificate and its key. gRPC would find out at the first
            handshake, and tell nobody.
    """
    try:
        private = serialization.load_pem_private_key(key, None)
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except (TypeError, ValueError):
        raise ValueError("certificate_file or key_file is not PEM") from None
    if certificate.public_key() != private.public_key():
        raise ValueError("key_file is not the key of certificate_file")


def write_development_certificates(folder: Path, *, client_name: str) -> None:
    """An authority, and certificates of a server on this machine and of one client.

    Writes ``ca.pem``, ``server.pem``, ``server.key``, ``client.pem`` and ``client.key``. The
    authority's own key is not kept: nothing else can be signed with it.

    Args:
        folder: where to; made if it is missing.
        client_name: the URI in the client's certificate, such as ``spiffe://dev/adapter``.

    Raises:
        OSError: the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = make_authority("authsvc development CA", days=DEVELOPMENT_DAYS)
    (folder / "ca.pem").write_bytes(authority.certificate_pem())
    server_names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    client_names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(client_name)]
    for name, names in (("server", server_names), ("client", client_names)):
        signed = issue(authority, f"authsvc {name}", names, days=DEVELOPMENT_DAYS, client=True)
        (folder / f"{name}.pem").write_bytes(signed.certificate_pem())
        key_file = folder / f"{name}.key"
        # Made anew: one that was there before might be open to others.
        key_file.unlink(missing_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(signed.key_pem())
