"""TLS for a stream's connection: verifies and presents what a channel's credentials do."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ALPN = "h2"


def context_of(authorities: bytes, pair: tuple[bytes, bytes] | None) -> ssl.SSLContext:
    """A context that trusts ``authorities`` alone, and checks the peer's name or address.

    Args:
        authorities: certificates, PEM.
        pair: the key and the chain of the client's certificate, PEM; None without one.

    Raises:
        OSError: OpenSSL rejects one of them, or there is no descriptor to hand it the pair.
    """
    # Unlike ssl.create_default_context, this loads no authorities of the system.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As gRPC: an intermediate or a server's own certificate may be in ca_file.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols([ALPN])
    context.load_verify_locations(cadata=authorities.decode("ascii"))
    if pair is not None:
        key, chain = pair
        # A chain may begin with anything but a certificate's line; a file may hold both.
        with _file_of(chain + b"\n" + key) as path:
            context.load_cert_chain(path, password=b"")
    return context


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """A file that only this process can read, and that is gone afterwards.

    ``ssl`` loads pairs from files alone. The files that they were read from may be half replaced.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pair"), "w+b") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pair.pem"
            path.touch(mode=0o600)
            path.write_bytes(data)
            yield str(path)
