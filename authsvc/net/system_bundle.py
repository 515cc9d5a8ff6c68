"""The system's certificate authorities in a file, for gRPC, which has a list of its own."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path

from authsvc.net.pem import readable_certificates

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions have them: this Python's OpenSSL may have been built for another one."""


def system_bundle() -> bytes | None:
    """The system's certificate authorities as PEM; None where no file holds them."""
    for path in _files():
        with suppress(OSError):
            readable, _ = readable_certificates(path.read_bytes())
            return readable or None
    return None


def system_bundle_file() -> Path | None:
    """The file that holds the system's certificate authorities; None where there is none."""
    return next((path for path in _files() if os.access(path, os.R_OK)), None)


def _files() -> list[Path]:
    told = ssl.get_default_verify_paths().cafile
    return [Path(path) for path in (*([told] if told else []), *_BUNDLES)]
