"""How a client authenticates authsvc and itself: certificates and tokens in files that change."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from authsvc.client.tls_context import context_of
from authsvc.common import arguments
from authsvc.common.file_faults import relative_to
from authsvc.common.formats import is_token_digest
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.pem import trusted_certificates
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str], ...]
"""The metadata of a call."""

Pair = tuple[bytes, bytes]
"""A key and the chain of its certificate, PEM."""

_Line = tuple[int, str]
"""A line to log: its level and its text."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to authenticate authsvc, and this caller to it.

    Attributes:
        ca_file: PEM authorities that sign authsvc's certificate.
        certificate_file: PEM chain of this caller's certificate; None without one.
        key_file: its key.
        service_token_file: holds this caller's service token, read again when it changes; None
            without one.

    Raises:
        TypeError: one of them is not a path.
        ValueError: a certificate is given without a key, or a key without a certificate; or a path
            is invalid.
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    service_token_file: Path | None = None

    def __post_init__(self) -> None:
        arguments.path("ca_file", self.ca_file)
        for name in ("certificate_file", "key_file", "service_token_file"):
            if getattr(self, name) is not None:
                arguments.path(name, getattr(self, name))
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: give both or neither")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """
        Raises:
            OSError: a file cannot be read, or its content is invalid.
        """
        return _credentials(self.authorities(), self.pair())

    def authorities(self) -> bytes:
        """The certificates of ``ca_file``, PEM. An invalid one is skipped and logged, so that it
        does not keep removed authorities trusted.

        Raises:
            OSError: it cannot be read, or holds no certificate.
        """
        readable, skipped = self.readable_authorities()
        for text in skipped:
            log.warning("%s", text)
        return readable

    def readable_authorities(self) -> tuple[bytes, list[str]]:
        """As ``authorities``, and what to log.

        Raises:
            OSError: the file cannot be read, or holds no certificate.
        """
        with _named(ca_file=self.ca_file):
            bundle = self.ca_file.read_bytes()
        readable, skipped = trusted_certificates(bundle)
        if not readable:
            raise ssl.SSLError(
                ssl.SSL_ERROR_SSL, f"ca_file {self.ca_file}: it holds no certificate"
            )
        return readable, [f"{self.ca_file}: {text}" for text in skipped]

    def pair(self) -> Pair | None:
        """The key and the chain of its certificate, PEM; None without one.

        Raises:
            OSError: a file cannot be read, or the key does not match the certificate.
        """
        key, chain = self.key_file, self.certificate_file
        if key is None or chain is None:
            return None
        with _named(key_file=key):
            key_pem = key.read_bytes()
        with _named(certificate_file=chain):
            chain_pem = chain.read_bytes()
        # gRPC would fail silently at the first handshake. An SSLError is an OSError.
        with _named(certificate_file=chain, key_file=key):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(chain, key)
        return key_pem, chain_pem

    def files(self) -> tuple[Path, ...]:
        """The certificates and the key."""
        files = (self.ca_file, self.certificate_file, self.key_file)
        return tuple(path for path in files if path is not None)


class Certificates:
    """The credentials of new connections, which follow their files.

    The authorities and the pair are loaded separately: a pair that is half replaced does not keep
    removed authorities trusted.

    Args:
        tls: None for connections in the clear, on this machine.

    Raises:
        OSError: a file cannot be read, or its content is invalid.
    """

    def __init__(self, tls: ClientTls | None) -> None:
        self._tls = tls
        self._files = WatchedFile(*(tls.files() if tls is not None else ()))
        self._lines: NewEntries[_Line] = NewEntries()
        self.credentials: grpc.ChannelCredentials | None = None
        """Of channels; None in the clear."""
        self.context: ssl.SSLContext | None = None
        """Of streams, of the same certificates; None in the clear."""
        if tls is not None:
            self._authorities, skipped = tls.readable_authorities()
            self._report([(logging.WARNING, text) for text in skipped])
            self._pair = tls.pair()
            self.context = context_of(self._authorities, self._pair)
            self.credentials = _credentials(self._authorities, self._pair)

    def renew(self) -> bool:
        """Reload files that have changed; whether ``credentials`` are new.

        While one of them cannot be used, all are loaded again at the next check: it may be half
        written, or the process may have had no file descriptor left to read it.
        """
        if self._tls is None or not self._files.changed(time.monotonic()):
            return False
        before = self._authorities, self._pair
        failures: list[_Line] = []
        skipped: list[str] = []
        try:
            self._authorities, skipped = self._tls.readable_authorities()
        except OSError as error:
            failures.append((logging.ERROR, f"authorities cannot be reloaded: {error}"))
        try:
            self._pair = self._tls.pair()
        except OSError as error:
            failures.append((logging.ERROR, f"certificates cannot be reloaded: {error}"))
        try:
            context = context_of(self._authorities, self._pair)
        except OSError as error:
            self._authorities, self._pair = before
            failures.append((logging.ERROR, f"certificates cannot be used: {error}"))
        self._report([*failures, *((logging.WARNING, text) for text in skipped)])
        if not failures:
            self._files.mark_read()
        if (self._authorities, self._pair) == before:
            return False
        self.context = context
        self.credentials = _credentials(self._authorities, self._pair)
        log.info("certificates reloaded")
        return True

    def _report(self, lines: list[_Line]) -> None:
        """Log each fault once, not at each call."""
        for level, text in self._lines.of(lines):
            log.log(level, "%s", text)


class ServiceToken:
    """A service token in a file, read again when the file changes.

    Args:
        path: the file; None for a caller without a service token.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = WatchedFile(path) if path is not None else None
        self._token = ""
        self._failures: NewEntries[str] = NewEntries()

    def metadata(self) -> Metadata:
        """The metadata that authenticates the caller.

        Raises:
            AuthError: CALLER_NOT_ALLOWED: there is no token.
        """
        if self._file is None:
            return ()
        return (("authorization", f"Bearer {self._current(self._file)}"),)

    def _current(self, file: WatchedFile) -> str:
        if self._token and not file.changed(time.monotonic()):
            return self._token
        (path,) = file.paths
        try:
            token = path.read_text(encoding="ascii").strip()
            if not token:
                raise ValueError(f"{path} is empty")  # it may be half written
            if is_token_digest(token):
                raise ValueError(f"{path} holds a digest, which is for authsvc: give the token")
        except (OSError, ValueError) as error:
            if not self._token:
                raise AuthError(Reason.CALLER_NOT_ALLOWED, f"service_token_file: {error}") from None
            for line in self._failures.of([str(error)]):
                log.warning("service_token_file: %s; the last token stays in use", line)
        else:
            self._token = token
            self._failures.of([])
            file.mark_read()
        return self._token


def file_faults(tls: ClientTls) -> list[str]:
    """Why files cannot be used, a line for each: one that cannot be used hides no other."""
    loads: list[Callable[[], object]] = [tls.readable_authorities]
    unread = [*filter(None, map(partial(_unreadable, tls), ("certificate_file", "key_file")))]
    if not unread:
        loads.append(tls.pair)
    faults = [fault for load in loads if (fault := _fault_of(load))]
    token = _unreadable(tls, "service_token_file")
    if not token and tls.service_token_file is not None:
        token = _fault_of(ServiceToken(tls.service_token_file).metadata)
    return [*faults, *unread, *filter(None, [token])]


def _unreadable(tls: ClientTls, name: str) -> str:
    path: Path | None = getattr(tls, name)

    def read() -> None:
        if path is not None:
            with _named(**{name: path}):
                path.read_bytes()

    return _fault_of(read)


def _fault_of(load: Callable[[], object]) -> str:
    """Why it cannot be loaded; empty if it can."""
    try:
        load()
    except OSError as error:
        return error.strerror or str(error)
    except AuthError as error:
        return error.detail
    return ""


@contextmanager
def _named(**files: Path) -> Iterator[None]:
    """Add the arguments and files concerned to an ``OSError``: ssl names none."""
    try:
        yield
    except OSError as error:
        about = " and ".join(f"{name} {path}" for name, path in files.items())
        is_missing = isinstance(error, FileNotFoundError)
        where = next(filter(None, map(relative_to, files.values())), "") if is_missing else ""
        raise type(error)(error.errno, f"{about}: {error.strerror}{where}") from None


def _credentials(authorities: bytes, pair: Pair | None) -> grpc.ChannelCredentials:
    key, chain = pair or (None, None)
    return grpc.ssl_channel_credentials(authorities, key, chain)
