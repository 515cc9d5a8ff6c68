"""The client whose request a gateway asks about, by the address that the gateway reports.

It is known where a check begins, and needed where a token is checked, far below: it is handed there
beside the arguments, as they are those of ``domain.resolution.Resolver``.
"""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar

from authsvc.gateways.encoded_checks import EncodedCheck

_MAX_CHARACTERS = 45
"""The longest IPv6 address as text."""

_reported: ContextVar[str] = ContextVar("client_address", default="")


def set_client(check: EncodedCheck, header: str) -> None:
    """Set whose request the check that runs is about.

    Args:
        check: the request.
        header: that the gateway reports the address in; empty for that of the connection.
    """
    reported = check.values(header) if header else [check.peer()]
    # With two of them, one may be the client's own.
    _reported.set(reported[0] if len(reported) == 1 else "")


def client_address() -> str:
    """IP address of the client whose request is checked; empty where it is not known."""
    address = _reported.get().partition("%")[0]  # a zone may be any text
    if len(address) > _MAX_CHARACTERS:
        return ""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
