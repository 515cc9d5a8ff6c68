"""Peers of connections: those whose word on a request counts, by their addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

UNIX = "unix"
"""Peers that have no address: those of a Unix socket."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_network(text: str) -> _Network:
    """An address, or a network in CIDR notation.

    Raises:
        ValueError: it is neither, has a zone, or has bits set beyond its prefix.
    """
    if "%" in text:
        raise ValueError("has the zone of an interface")
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


def network_of(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))


class Peers:
    """Peers that are trusted.

    Args:
        trusted: addresses and networks, as of ``read_network``, and ``unix``.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        texts = set(trusted)
        self._unix = UNIX in texts
        self._networks = tuple(read_network(text) for text in texts - {UNIX})

    def include(self, host: str) -> bool:
        """Whether a peer is one of them.

        Args:
            host: its address; empty where it has none.
        """
        if not host:
            return self._unix
        try:
            address: _Address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        # A socket of both families has the addresses of IPv4 in this form.
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
