"""Addresses, as settings and clients give them."""

from __future__ import annotations

import ipaddress


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
