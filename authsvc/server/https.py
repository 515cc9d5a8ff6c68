"""HTTPS of authsvc's own HTTP servers: the JWK Set of assertions, the receiver of signals."""

from __future__ import annotations

from authsvc.common.settings import ConfigError
from authsvc.net.addresses import is_local
from authsvc.net.served_context import ServedContext
from authsvc.server.config import TlsSettings
from authsvc.server.tls_files import check_readable


def served_context_of(listen: str, tls: TlsSettings | None) -> ServedContext | None:
    """The certificate of ``[tls]`` where other machines can reach an address; None for HTTP.

    Args:
        listen: the address.
        tls: ``[tls]``; None without it.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    if is_local(listen) or tls is None:
        return None
    check_readable(tls)
    try:
        return ServedContext(tls.certificate_file, tls.key_file)
    except OSError as error:
        raise ConfigError(f"tls.certificate_file: {error}") from None
