"""Certificates of authorities in a PEM bundle, each checked by itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from authsvc.net.certificate_data import same_names

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


def read_by_openssl(pem: str) -> str:
    """One certificate as it is, checked by the standard library.

    Raises:
        ValueError: OpenSSL cannot read it.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, TypeError) as error:  # TypeError: it is not ASCII
        raise ValueError(str(error)) from None
    return pem


def readable_certificates(
    bundle: bytes, read: Callable[[str], str] = read_by_openssl
) -> tuple[bytes, list[str]]:
    """The certificates of a bundle that can be read, and what is wrong with the others.

    gRPC reads a bundle up to the first certificate that it cannot read, and does not report the
    rest. With those left out, an authority that was removed from the bundle is not trusted any
    more, whatever else the bundle holds.

    Args:
        bundle: PEM, with any text between the certificates.
        read: the certificate to use for one of the bundle, both PEM; raises ValueError for one
            that cannot be read.

    Returns:
        The readable ones, PEM, empty where there are none; and a line for the log for each other.
    """
    readable: list[str] = []
    skipped: list[str] = []
    # Latin-1 reads any bytes; a certificate itself is ASCII.
    _, *entries = bundle.decode("latin-1").split(_BEGIN)
    for number, entry in enumerate(entries, 1):
        pem = _BEGIN + entry.partition(_END)[0] + _END
        try:
            certificate = read(pem)
        except ValueError as error:
            skipped.append(f"skipped certificate {number}: it cannot be read: {error}")
        else:
            readable.append(f"{certificate.rstrip()}\n")
    return "".join(readable).encode(), skipped


def trusted_certificates(
    bundle: bytes, read: Callable[[str], str] = read_by_openssl
) -> tuple[bytes, list[str]]:
    """As ``readable_certificates``, for authorities that are trusted: with a line for the log for
    those that verifiers mistake for each other."""
    readable, skipped = readable_certificates(bundle, read)
    return readable, [*skipped, *same_names(readable)]
