"""Listens on an address, and accepts connections as long as there is room for them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authsvc.common.listening import bound
from authsvc.http_server.connection import Connection
from authsvc.http_server.connections import Connections
from authsvc.http_server.responses import plain_response

log = logging.getLogger(__name__)

BACKLOG = 2048

OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

RETRY_SECONDS = 0.1
"""Wait after a connection could not be accepted, before the next attempt."""

ACCEPT_BURST = 32
"""Connections that are accepted in a row before other tasks of the event loop run."""

TLS_SHUTDOWN_SECONDS = 2.0


@contextmanager
def listening_sockets(
    address: str, *, setting: str = "listen", shares_port: bool = False
) -> Iterator[list[socket.socket]]:
    """Sockets that listen on all addresses of ``host:port``; arguments and errors as ``bound``."""
    with bound(address, setting=setting, shares_port=shares_port, backlog=BACKLOG) as sockets:
        for listener in sockets:
            # Accepted sockets inherit it. asyncio sets it only on sockets that name their protocol,
            # and without it every response waits 40 ms for an acknowledgement.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sockets


class PendingConnection:
    """An accepted connection without HTTP yet: the TLS handshake comes first.

    A ``ConnectionHandle``.

    Args:
        tls: whether there is a TLS handshake.
    """

    def __init__(self, *, tls: bool) -> None:
        self.opening: asyncio.Task[None] | None = None
        self.is_dropped = False
        self._tls = tls

    def drop(self, reason: str) -> None:
        """See ``ConnectionHandle``, as for all that follows."""
        self.abort()

    def abort(self) -> None:
        # Without TLS it opens at once. uvloop loses track of a socket whose opening is cancelled.
        self.is_dropped = True
        if self.opening is not None and self._tls:
            self.opening.cancel()

    def unread(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def reads(self) -> bool:
        return True


class Listener:
    """Accepts connections until it is closed. uvicorn uses it as an ``asyncio.Server``.

    Args:
        listener: the listening socket.
        connections: admits what is accepted.
        protocol: makes the protocol of a connection.
        tls: for HTTPS; called for each connection. None for plain HTTP.
    """

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        protocol: Callable[[Connection], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        # A copy: uvicorn closes its own socket while the last call on this one is under way.
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self._connections = connections
        self._protocol = protocol
        self._tls = tls
        self._pending: dict[asyncio.Task[None], PendingConnection] = {}
        self._accepting = asyncio.create_task(self._accept(), name="accept connections")

    def close(self) -> None:
        """Accept no more connections, and end those without HTTP."""
        self._accepting.cancel()
        for pending in self._pending.values():
            pending.abort()

    async def wait_closed(self) -> None:
        """Wait until that is done."""
        await asyncio.gather(self._accepting, *self._pending, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        accepted = 0
        with self._listener:
            while True:
                try:
                    sock, peer = await loop.sock_accept(self._listener)
                except OSError as error:
                    await self._accept_failed(error)
                    continue
                self._admit(sock, peer)
                accepted += 1
                if accepted % ACCEPT_BURST == 0:
                    await asyncio.sleep(0)

    async def _accept_failed(self, error: OSError) -> None:
        if error.errno in OUT_OF_RESOURCES:
            self._connections.count_dropped("descriptors")
            self._connections.make_room()
        else:  # such as a client that disconnected before
            log.debug("a connection was not accepted: %s", error)
        await asyncio.sleep(RETRY_SECONDS)

    def _admit(self, sock: socket.socket, peer: object) -> None:
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        pending = PendingConnection(tls=self._tls is not None)
        connection = self._connections.admit(pending, address)
        if connection is None:
            self._reject(sock)
            return
        pending.opening = asyncio.create_task(self._open(sock, pending, connection))
        self._pending[pending.opening] = pending
        pending.opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._pending.pop(opening, None)

    def _reject(self, sock: socket.socket) -> None:
        with sock:
            if self._tls is None:
                try:
                    sock.setblocking(False)
                    sock.send(plain_response(503))
                except OSError:
                    pass  # the client has disconnected

    async def _open(
        self, sock: socket.socket, pending: PendingConnection, connection: Connection
    ) -> None:
        settings = self._connections.limits.connections
        timeouts: dict[str, float] = {}
        if self._tls is not None:
            timeouts["ssl_handshake_timeout"] = settings.header_timeout_seconds
            timeouts["ssl_shutdown_timeout"] = TLS_SHUTDOWN_SECONDS
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol(connection),
                sock,
                ssl=None if self._tls is None else self._tls(),
                **timeouts,
            )
        except OSError:  # errors of TLS are among them
            self._connections.count_dropped("tls", connection.address)
            self._discard(sock, connection)
        except BaseException:
            self._discard(sock, connection)
            raise
        else:
            if pending.is_dropped:
                transport.abort()

    def _discard(self, sock: socket.socket, connection: Connection) -> None:
        self._connections.lost(connection)
        sock.close()
