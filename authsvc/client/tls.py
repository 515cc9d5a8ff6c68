"""How a client knows authsvc and is known by it: certificates and tokens in files that change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from authsvc import arguments
from authsvc.errors import AuthError, Reason

log = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str], ...]
"""What goes with each call."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to know authsvc, and how to be known by it.

    Attributes:
        ca_file: PEM authorities of authsvc's certificate.
        certificate_file: PEM chain of this caller's certificate; None without one.
        key_file: its key.
        service_token_file: holds this caller's service token, read again when it changes; None
            without one.

    Raises:
        TypeError: one of them is no path.
        ValueError: there is a certificate without a key, or a key without a certificate.
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    service_token_file: Path | None = None

    def __post_init__(self) -> None:
        arguments.instance_of("ca_file", self.ca_file, Path)
        for name in ("certificate_file", "key_file", "service_token_file"):
            if getattr(self, name) is not None:
                arguments.instance_of(name, getattr(self, name), Path)
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: give both or neither")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """
        Raises:
            OSError: a file cannot be read, or does not hold what it should.
        """
        key, chain = self.key_file, self.certificate_file
        # gRPC would find out at the first handshake, and tell nobody. An SSLError is an OSError.
        checked = ssl.create_default_context(cafile=self.ca_file)
        if chain is not None:
            checked.load_cert_chain(chain, key)
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca_file.read_bytes(),
            private_key=key.read_bytes() if key else None,
            certificate_chain=chain.read_bytes() if chain else None,
        )

    def files(self) -> tuple[Path, ...]:
        """The certificates and the key."""
        files = (self.ca_file, self.certificate_file, self.key_file)
        return tuple(path for path in files if path is not None)


class Certificates:
    """The credentials of new connections, which follow their files.

    Args:
        tls: None for connections in the clear, on this machine.

    Raises:
        OSError: a file cannot be read, or does not hold what it should.
    """

    def __init__(self, tls: ClientTls | None) -> None:
        self._tls = tls
        self._logged_failure = ""
        self._stamps = self._stamped()
        self.credentials = tls.channel_credentials() if tls else None

    def renew(self) -> bool:
        """Whether there are other credentials now: the files have changed and are fit for use."""
        if self._tls is None:
            return False
        try:
            stamps = self._stamped()
            if stamps == self._stamps:
                return False
            # Whatever comes of it, these are not tried again before they change once more.
            self._stamps = stamps
            self.credentials = self._tls.channel_credentials()
        except OSError as error:
            # Every call looks, and a file that is gone has no stamp to tell one look from the next.
            if str(error) != self._logged_failure:
                log.error("certificates cannot be reloaded: %s", error)
            self._logged_failure = str(error)
            return False
        self._logged_failure = ""
        log.info("certificates reloaded")
        return True

    def _stamped(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in self._tls.files()) if self._tls else ()


class ServiceToken:
    """A service token in a file, read again when the file changes.

    Args:
        path: the file; None for a caller without a service token.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._token = ""

    def metadata(self) -> Metadata:
        """What proves the caller, for a call to carry.

        Raises:
            AuthError: CALLER_NOT_ALLOWED when there is no token to be had.
        """
        if self._path is None:
            return ()
        return (("authorization", f"Bearer {self._current(self._path)}"),)

    def _current(self, path: Path) -> str:
        try:
            stamp = _stamp(path)
            if stamp != self._stamp:
                self._token = path.read_text(encoding="ascii").strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                raise AuthError(Reason.CALLER_NOT_ALLOWED, str(error)) from None
        return self._token


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino
