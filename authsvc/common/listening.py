"""The sockets that a program listens with: one for each address of a name, all with one port.

A name such as ``localhost`` has an address of each family, and clients try any of them. If a
program listened on those that are free, clients would reach another program at the others.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from authsvc.common.settings import ConfigError
from authsvc.net.addresses import split

LOCALHOST = ("127.0.0.1", "::1")
"""What clients take ``localhost`` for (RFC 6761 section 6.3). gRPC and browsers do not ask the
system's resolver, which may know only one of them."""

EVERY = "::"
"""Every address of the machine, those of IPv4 included."""

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""The machine does not have an address, or has no IPv6."""

_ATTEMPTS = 20
"""To find a port that is free at all addresses, where any port will do."""


@contextmanager
def bound(
    address: str, *, setting: str = "listen", shares_port: bool = False, backlog: int | None = None
) -> Iterator[list[socket.socket]]:
    """Sockets that are bound to all addresses of ``host:port``, until the end of the block.

    An address that the machine does not have is left out where it has another one of the name.

    Args:
        address: the address; port 0 is any free one.
        setting: the setting that has it, for the error.
        shares_port: whether other processes may be bound to the same port.
        backlog: connections that may wait to be accepted; None for sockets that do not listen.

    Raises:
        ConfigError: an address is taken, or none is one of this machine.
    """
    host, port = split(address)
    attempts = 1 if port else _ATTEMPTS
    with ExitStack() as stack:
        while True:
            attempts -= 1
            try:
                sockets = _bound(_hosts(host), port, shares_port=shares_port, backlog=backlog)
                break
            except OSError as error:
                if attempts == 0 or error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"{setting}: {_message(address, error)}") from None
        for it in sockets:
            stack.enter_context(it)
        yield sockets


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that sockets of ``bound`` have in common."""
    return int(sockets[0].getsockname()[1])


def address_of(bound_socket: socket.socket) -> str:
    """The address of a socket of ``bound``, as ``host:port``."""
    host, port = bound_socket.getsockname()[:2]
    return _text(host, port)


def _hosts(name: str) -> list[str]:
    """The addresses of a name, each once.

    Raises:
        OSError: it has none.
    """
    if name.lower() == "localhost":
        return list(LOCALHOST)
    found = socket.getaddrinfo(name or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _bound(
    hosts: Sequence[str], port: int, *, shares_port: bool, backlog: int | None
) -> list[socket.socket]:
    """As ``bound``.

    Raises:
        OSError: its ``filename`` is the address.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as stack:
        for host in hosts:
            wanted = port_of(sockets) if sockets else port
            try:
                made = _socket(host, wanted, shares_port=shares_port, backlog=backlog)
            except OSError as error:
                error.filename = _text(host, wanted)
                if error.errno not in _ABSENT:
                    raise
                absent = error
            else:
                sockets.append(stack.enter_context(made))
        if absent is not None and not sockets:
            raise absent
        stack.pop_all()
    return sockets


def _socket(host: str, port: int, *, shares_port: bool, backlog: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares_port)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != EVERY)
        made.bind((host, port))
        if backlog is not None:
            made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made


def _message(address: str, error: OSError) -> str:
    cause = error.strerror or str(error)
    if error.filename not in {None, address}:
        cause = f"{cause} ({error.filename})"
    port = address.rpartition(":")[2]
    stop = f", or stop the process that uses port {port}" if error.errno == errno.EADDRINUSE else ""
    return f"{address} cannot be listened on: {cause}. Choose another address{stop}."


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
