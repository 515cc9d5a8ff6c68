"""Which certificate authorities a client trusts: the system's, and those of a file beside them.

All of our clients of HTTPS use this, so that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which say
where OpenSSL's store is, count for all of them in the same way.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from authsvc.net.pem import trusted_certificates
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Trust in the system's certificate authorities. Loading them takes tens of milliseconds, so
    that is done once."""
    return new_tls_context()


class Trust:
    """Trust in the system's certificate authorities, and in those of a file, which may change.

    An authority that is removed from the file is trusted no more, whatever else is wrong with the
    file. If the file cannot be read, or holds no certificate, the last authorities stay trusted,
    and that is logged.

    Args:
        ca_file: PEM certificates.
        clock: seconds of any origin.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no certificate.
    """

    def __init__(self, ca_file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = ca_file
        self._clock = clock
        self._file = WatchedFile(ca_file)
        self._lines: NewEntries[str] = NewEntries()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For new connections; it follows the file within ``WATCH_INTERVAL_SECONDS``."""
        if self._file.changed(self._clock()):
            try:
                self._context = self._load()
            except (OSError, ValueError) as error:
                self._report([f"ca_file cannot be reloaded, the old one stays in use: {error}"])
            else:
                self._file.mark_read()
                log.info("ca_file reloaded from %s", self._path)
        return self._context

    def new_context(self) -> ssl.SSLContext:
        """A context of its own with the authorities of ``context``, for a client's certificate."""
        return _trusting(self._readable)

    def _load(self) -> ssl.SSLContext:
        readable, skipped = trusted_certificates(self._path.read_bytes())
        if not readable:
            raise ValueError(f"{self._path} holds no certificate")
        self._report([f"{self._path}: {text}" for text in skipped])
        self._readable = readable
        return _trusting(readable)

    def _report(self, lines: list[str]) -> None:
        for line in self._lines.of(lines):
            log.warning("%s", line)


def _trusting(authorities: bytes) -> ssl.SSLContext:
    """A context that trusts the system's authorities and these, PEM."""
    context = new_tls_context()
    context.load_verify_locations(cadata=authorities.decode())
    # The file may hold the authority that issues the certificates, without the root above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def new_tls_context() -> ssl.SSLContext:
    """As ``tls_context``, and of its own: for a client's certificate."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        return context
    # OpenSSL's store, also where it is elsewhere than this Python's OpenSSL was built for.
    return httpx2.create_ssl_context(trust_env=False)
