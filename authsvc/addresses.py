"""Addresses, as settings and clients give them."""

from __future__ import annotations

import ipaddress

MAX_PORT = 65_535


def is_port(text: str) -> bool:
    """Whether a text is the number of a port that something can listen on."""
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= MAX_PORT


def is_local(address: str) -> bool:
    """Whether an address, ``host:port`` or ``unix:/path``, is one of this machine alone."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
