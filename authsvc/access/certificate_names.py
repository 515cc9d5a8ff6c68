"""The names that a client certificate proves, read from the certificate itself.

What gRPC hands out beside it has passed through C strings, where a NUL ends the name:
``spiffe://x/ops\\0.tenant`` arrives there as ``spiffe://x/ops``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from cryptography import x509

from authsvc.access.callers import comparable
from authsvc.domain.errors import AuthError, Reason

MAX_CERTIFICATE_BYTES = 32 * 1024
"""Longest certificate that is read, as PEM."""

MAX_NAME_LENGTH = 2_048
"""Characters; SPIFFE's limit for an id. A DNS name has 253 at most."""

CACHED_CERTIFICATES = 256
"""Certificates whose names are cached. Each call reads the names of its connection."""


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The URI and DNS names of a client certificate that the connection has proven.

    Subject alternative names alone: the common name, addresses and mail addresses identify no
    caller (RFC 9525 section 6.3). Each kind is separate: a DNS or mail name that spells a URI is
    not that URI. DNS names are in lower case (RFC 4343); URIs are compared as they are.

    Args:
        auth_context: of the connection, as gRPC has it.

    Raises:
        AuthError: CALLER_NOT_ALLOWED: the certificate cannot be read, or one of its names could be
            taken for another. Such a certificate identifies no caller, whatever its other names.
    """
    certificates = tuple(auth_context.get("x509_pem_cert", ()))
    if not certificates:
        return ()
    names, flaw = ((), "two certificates") if len(certificates) > 1 else _read(certificates[0])
    if flaw:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, f"the client certificate: {flaw}")
    return names


@lru_cache(maxsize=CACHED_CERTIFICATES)
def _of_bounded(pem: bytes) -> tuple[tuple[str, ...], str]:
    try:
        alternative = (
            x509.load_pem_x509_certificate(pem)
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
    except x509.ExtensionNotFound:
        return (), ""
    except (
        ValueError,
        TypeError,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        return (), "its names cannot be read"
    uris = alternative.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = alternative.get_values_for_type(x509.DNSName)
    mail = alternative.get_values_for_type(x509.RFC822Name)
    if not all(map(_is_plain, (*uris, *hosts, *mail))):
        return (), "a name is empty, too long, or has characters that names do not have"
    uris = [name for name in uris if ":" in name]
    hosts = [comparable(name) for name in hosts if ":" not in name]
    return (*uris, *hosts), ""


def _read(pem: bytes) -> tuple[tuple[str, ...], str]:
    """The names, or what is wrong with them: a rejected certificate is parsed only once, too."""
    if len(pem) > MAX_CERTIFICATE_BYTES:
        return (), f"it has more than {MAX_CERTIFICATE_BYTES} bytes"
    return _of_bounded(pem)


def _is_plain(name: str) -> bool:
    """Whether it is of visible ASCII: RFC 5280 section 4.2.1.6 has it so for each kind."""
    return 0 < len(name) <= MAX_NAME_LENGTH and all("!" <= it <= "~" for it in name)
