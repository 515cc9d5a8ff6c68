"""The addresses of authsvc's replicas: given directly, or looked up by name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from authsvc.common import arguments
from authsvc.net.addresses import is_host_and_port, is_local

DNS = "dns:///"

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to its current IP addresses. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one replica listens.

    Attributes:
        address: what gRPC connects to, such as ``10.0.0.7:50051`` or ``unix:/run/authsvc.sock``.
        host: the name that its certificate must have; empty if that is in the address.
    """

    address: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A DNS name; each of its addresses is a replica."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Targets:
    """The addresses and names of a client's target."""

    endpoints: tuple[Endpoint, ...]
    names: tuple[Name, ...]

    @classmethod
    def parse(cls, target: str | Sequence[str]) -> Targets:
        """Read ``host:port``, ``unix:/path`` or ``dns:///host:port``, or several of them.

        Args:
            target: one, several separated by commas, or a sequence.

        Raises:
            TypeError: it is neither a string nor a sequence of strings.
            ValueError: an item is invalid. The message names its position, as a value may hold a
                secret.
        """
        items = target.split(",") if isinstance(target, str) else arguments.texts("target", target)
        read = [_read(item.strip(), place) for place, item in enumerate(items, start=1)]
        if not read:
            raise ValueError("target is empty: give an address such as 127.0.0.1:50051")
        return cls(
            endpoints=tuple(item for item in read if isinstance(item, Endpoint)),
            names=tuple(item for item in read if isinstance(item, Name)),
        )

    def __str__(self) -> str:
        """The targets, separated by commas; names last."""
        named = [f"{DNS}{name.host}:{name.port}" for name in self.names]
        return ",".join([*(endpoint.address for endpoint in self.endpoints), *named])

    @property
    def on_this_machine(self) -> bool:
        """Whether each is a loopback address or a Unix socket."""
        named = [f"{name.host}:{name.port}" for name in self.names]
        return all(map(is_local, [*named, *(endpoint.address for endpoint in self.endpoints)]))

    def check_plaintext(self) -> None:
        """
        Raises:
            ValueError: a target is not on this machine: without TLS, tokens would cross the network
                in the clear.
        """
        if not self.on_this_machine:
            raise ValueError(
                "target is not on this machine, so tokens would cross the network in the clear: "
                "use a client with tls=ClientTls(...)"
            )


def _read(item: str, place: int) -> Endpoint | Name:
    if item.startswith("unix:") and item != "unix:" and item.isprintable():
        return Endpoint(item)
    if "@" in item:
        raise ValueError("target contains a user or a password: remove them")
    address = item.removeprefix(DNS)
    if not is_host_and_port(address):
        raise ValueError(
            f"target number {place} is invalid: give an address like 127.0.0.1:50051, "
            "unix:/run/authsvc.sock or dns:///authsvc.internal:50051, with a port from 1 to 65535 "
            "and an IPv6 address in brackets"
        )
    host, _, port = address.rpartition(":")
    return Name(host, int(port)) if item.startswith(DNS) else Endpoint(item)


async def look_up(host: str, port: int) -> Sequence[str]:
    """Look up by the machine's own resolver; see ``LookUp``."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def endpoints_of(name: Name, look_up: LookUp) -> frozenset[Endpoint]:
    """The current replicas of a name.

    Raises:
        OSError: it cannot be looked up.
    """
    addresses = await look_up(name.host, name.port)
    return frozenset(
        Endpoint(f"[{ip}]:{name.port}" if ":" in ip else f"{ip}:{name.port}", host=name.host)
        for ip in addresses
    )
