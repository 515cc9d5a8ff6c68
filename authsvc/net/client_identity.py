"""A certificate that a client presents in TLS, and its key, which follow their files."""

from __future__ import annotations

import logging
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authsvc.net.trust import Trust, new_tls_context, tls_context
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

CERTIFICATE_SETTING = "client_certificate_file"
KEY_SETTING = "client_certificate_key_file"

MAX_FILE_BYTES = 1024 * 1024
"""The largest file of a certificate or key."""


class ClientIdentityError(ValueError):
    """A file cannot be used. The message names it, and shows nothing of its content.

    Attributes:
        setting: the setting of the file, within the endpoint's table of the configuration.
    """

    def __init__(self, detail: str, setting: str) -> None:
        super().__init__(detail)
        self.setting = setting


class ClientIdentity:
    """A client's certificate and its key, for connections to one endpoint.

    A changed pair takes effect for new connections. While the files are no pair, as between the
    replacement of one and of the other, the last pair stays in use, and that is logged once.

    Args:
        certificate_file: PEM chain, its own first.
        key_file: PEM key, not encrypted; may be the same file.
        trust: the certificate authorities of servers; None for the system's.
        clock: seconds of any origin.

    Raises:
        ClientIdentityError: a file cannot be used.
    """

    def __init__(
        self,
        certificate_file: Path,
        key_file: Path,
        trust: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certificate_file = certificate_file
        self._key_file = key_file
        self._trust = trust
        self._clock = clock
        self._files = WatchedFile(certificate_file, key_file)
        self._failures: NewEntries[str] = NewEntries()
        self._servers = self._trusted()
        self.certificate, self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For new connections; it follows the files within ``WATCH_INTERVAL_SECONDS``.

        Raises:
            ClientIdentityError: the trusted authorities have changed while the files are no pair.
                The last pair is in a context that trusts the former authorities.
        """
        has_changed = self._files.changed(self._clock())
        servers = self._trusted()
        trusts_others = servers is not self._servers
        if has_changed or trusts_others:
            try:
                self.certificate, self._context = self._load()
            except ClientIdentityError as error:
                self._report([f"{error}; the last certificate stays in use"])
                if trusts_others:
                    raise
            else:
                self._servers = servers
                if has_changed:
                    self._files.mark_read()
                    self._report([])
                    log.info("client certificate reloaded from %s", self._certificate_file)
        return self._context

    @property
    def expires(self) -> float:
        """When the certificate in use expires, in seconds since the epoch."""
        return self.certificate.not_valid_after_utc.timestamp()

    def _trusted(self) -> ssl.SSLContext:
        """The context without a client's certificate: another one once the authorities change."""
        return tls_context() if self._trust is None else self._trust.context()

    def _load(self) -> tuple[x509.Certificate, ssl.SSLContext]:
        certificate = _checked_pair(self._certificate_file, self._key_file)
        context = new_tls_context() if self._trust is None else self._trust.new_context()
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certificate_file, self._key_file, password=b"")
        except OSError as error:
            reason = (getattr(error, "reason", None) or "").lower().replace("_", " ")
            raise ClientIdentityError(
                f"{self._certificate_file}: OpenSSL rejects the certificate or its key"
                f"{f': {reason}' if reason else ''}",
                CERTIFICATE_SETTING,
            ) from None
        return certificate, context

    def _report(self, lines: list[str]) -> None:
        for line in self._failures.of(lines):
            log.error("client certificate cannot be reloaded: %s", line)


def _checked_pair(certificate_file: Path, key_file: Path) -> x509.Certificate:
    """The certificate of two files that belong together.

    Raises:
        ClientIdentityError: they do not, or one of them cannot be read.
    """
    chain = read_identity_file(certificate_file, CERTIFICATE_SETTING)
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, x509.InvalidVersion):
        # The error itself may quote the file, which may hold the key as well.
        raise ClientIdentityError(
            f"{certificate_file}: holds no certificate in PEM", CERTIFICATE_SETTING
        ) from None
    if _public_key(certificate) != _key(key_file):
        raise ClientIdentityError(
            f"{certificate_file}: the certificate does not belong to the key in {key_file}",
            CERTIFICATE_SETTING,
        )
    return certificate


def _key(path: Path) -> PublicKeyTypes:
    pem = read_identity_file(path, KEY_SETTING)
    try:
        return load_pem_private_key(pem, password=None).public_key()
    except TypeError:
        raise ClientIdentityError(f"{path}: the private key has a password", KEY_SETTING) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ClientIdentityError(f"{path}: holds no private key in PEM", KEY_SETTING) from None


def _public_key(certificate: x509.Certificate) -> PublicKeyTypes | None:
    """The certificate's key; None for one of a kind that is not supported, which is not ours."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def read_identity_file(path: Path, setting: str) -> bytes:
    """The content of the file of a certificate or a key.

    Args:
        path: the file.
        setting: names it in an error.

    Raises:
        ClientIdentityError: it is no regular file, too large, or cannot be read. To read a pipe
            would wait for its writer.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ClientIdentityError(f"{path}: is no regular file", setting)
        if status.st_size > MAX_FILE_BYTES:
            raise ClientIdentityError(f"{path}: is larger than {MAX_FILE_BYTES} bytes", setting)
        return path.read_bytes()
    except OSError as error:
        raise ClientIdentityError(f"{path}: {error.strerror}", setting) from None
