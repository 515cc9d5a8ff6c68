"""Which IP addresses belong to the public Internet."""

from __future__ import annotations

import ipaddress

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_6TO4 = ipaddress.ip_network("2002::/16")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PROVIDERS = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
)
"""Metadata services of cloud providers, which return a machine's credentials, at addresses that
``ipaddress`` calls global. The other metadata services have addresses that it calls private."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the public Internet.

    Stricter than ``is_global``, which accepts addresses that a gateway translates to private ones
    (6to4, NAT64), deprecated ranges, multicast, and metadata services of cloud providers.
    """
    if isinstance(address, ipaddress.IPv4Address):
        inside = any(address in network for network in _PROVIDERS)
        return address.is_global and not address.is_multicast and not inside
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address.is_global and address in _GLOBAL_UNICAST and address not in _6TO4


def is_this_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a connection to an address ends at this machine: loopback and the unspecified
    address, also in the IPv6 form of an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_this_machine(address.ipv4_mapped)
    return address.is_loopback or address.is_unspecified
