"""TLS of a server that takes its context for each connection: it follows the files of a pair."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path

from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)


class ServedContext:
    """The context of a certificate and its key. A changed pair takes effect for new connections.

    Args:
        certificate_file: PEM chain, its own first.
        key_file: PEM key, not encrypted.

    Raises:
        OSError: a file cannot be read, or OpenSSL rejects it.
    """

    def __init__(self, certificate_file: Path, key_file: Path) -> None:
        self._pair = certificate_file, key_file
        self._files = WatchedFile(certificate_file, key_file)
        self._failures: NewEntries[str] = NewEntries()
        self._context = self._loaded()

    def __call__(self) -> ssl.SSLContext:
        """The context, as of the last files that form a pair."""
        if self._files.changed(time.monotonic()):
            failures = []
            try:
                self._context = self._loaded()
                self._files.mark_read()
            except OSError as error:
                failures.append(str(error))
            for failure in self._failures.of(failures):
                log.error("certificates cannot be reloaded: %s", failure)
        return self._context

    def _loaded(self) -> ssl.SSLContext:
        certificate_file, key_file = self._pair
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate_file, key_file, password=b"")
        return context
