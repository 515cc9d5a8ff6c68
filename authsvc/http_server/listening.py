"""Takes connections from a listening socket, as many as there is room for."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from authsvc.http_server.connections import Connection, Connections
from authsvc.http_server.protocol import answer

log = logging.getLogger(__name__)

NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

PAUSE_SECONDS = 0.1
"""Without descriptors, before another connection is taken."""

BURST = 32
"""Connections that are taken before others have their turn."""

TLS_SHUTDOWN_SECONDS = 2.0


class Arrival:
    """A connection that was taken, and has no HTTP yet: TLS comes first.

    Args:
        tls: whether that comes first.
    """

    def __init__(self, *, tls: bool) -> None:
        self.tls = tls
        self.opening: asyncio.Task[None] | None = None
        self.is_dropped = False

    def drop(self, reason: str) -> None:
        """See ``Wire``, as for all that follows."""
        self.abort()

    def abort(self) -> None:
        # Without TLS it opens at once. uvloop loses track of a socket whose opening is cancelled.
        self.is_dropped = True
        if self.opening is not None and self.tls:
            self.opening.cancel()

    def unread(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def reads(self) -> bool:
        return True


class Listener:
    """Takes connections until it is closed. What uvicorn knows as a server.

    Args:
        listener: listens.
        connections: where what it takes is counted.
        protocol: makes what speaks HTTP on a connection.
        tls: ends TLS, if that is spoken.
    """

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        protocol: Callable[[Connection], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        # uvicorn closes its own before the last call on it has ended.
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self._connections = connections
        self._protocol = protocol
        self._tls = tls
        self._opening: dict[asyncio.Task[None], Arrival] = {}
        self._accepting = asyncio.create_task(self._accept(), name="accept connections")

    def close(self) -> None:
        """Take no more, and end what has not got as far as HTTP."""
        self._accepting.cancel()
        for arrival in self._opening.values():
            arrival.abort()

    async def wait_closed(self) -> None:
        """Wait until it is."""
        await asyncio.gather(self._accepting, *self._opening, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        taken = 0
        with self._listener:
            while True:
                try:
                    sock, peer = await loop.sock_accept(self._listener)
                except OSError as error:
                    await self._out_of_room(error)
                    continue
                self._take(sock, peer)
                taken += 1
                if taken % BURST == 0:
                    await asyncio.sleep(0)

    async def _out_of_room(self, error: OSError) -> None:
        if error.errno in NO_ROOM:
            self._connections.note("descriptors")
            self._connections.make_room()
        else:  # such as one that was gone before it was taken
            log.debug("not taken: %s", error)
        await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, sock: socket.socket, peer: object) -> None:
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        arrival = Arrival(tls=self._tls is not None)
        connection = self._connections.admit(arrival, address)
        if connection is None:
            self._reject(sock)
            return
        arrival.opening = asyncio.create_task(self._open(sock, arrival, connection))
        self._opening[arrival.opening] = arrival
        arrival.opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening.pop(opening, None)

    def _reject(self, sock: socket.socket) -> None:
        with sock:
            if self._tls is None:
                try:
                    sock.setblocking(False)
                    sock.send(answer(503))
                except OSError:
                    pass  # nobody reads it

    async def _open(self, sock: socket.socket, arrival: Arrival, connection: Connection) -> None:
        settings = self._connections.limits.connections
        timeouts: dict[str, float] = {}
        if self._tls is not None:
            timeouts["ssl_handshake_timeout"] = settings.header_timeout_seconds
            timeouts["ssl_shutdown_timeout"] = TLS_SHUTDOWN_SECONDS
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol(connection),
                sock,
                ssl=self._tls,
                **timeouts,
            )
        except OSError:  # of TLS among it
            self._connections.note("tls", connection.address)
            self._gone(sock, connection)
        except BaseException:
            self._gone(sock, connection)
            raise
        else:
            if arrival.is_dropped:
                transport.abort()

    def _gone(self, sock: socket.socket, connection: Connection) -> None:
        self._connections.lost(connection)
        sock.close()
