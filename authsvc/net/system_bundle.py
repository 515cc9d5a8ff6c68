"""The system's certificate authorities in a file, for gRPC, which has a list of its own."""

from __future__ import annotations

import ssl
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
    told = ssl.get_default_verify_paths().cafile
    for path in (*([told] if told else []), *_BUNDLES):
        try:
            readable, _ = readable_certificates(Path(path).read_bytes())
        except OSError:
            continue
        return readable or None
    return None
