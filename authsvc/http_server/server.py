"""Serves an ASGI app within limits."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from typing import cast

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from authsvc.common.periodic import repeat
from authsvc.http_server.connection import Connection, ConnectionCounts
from authsvc.http_server.connections import Connections
from authsvc.http_server.listening import Listener
from authsvc.http_server.protocol import BoundedProtocol
from authsvc.http_server.settings import HttpLimits
from authsvc.net.descriptors import room_for

LONGEST_SWEEP_SECONDS = 1.0
"""Between two looks for connections that have exceeded a time limit; shorter where a limit is."""


class BoundedServer(uvicorn.Server):
    """uvicorn, with limits on connections.

    Args:
        config: uvicorn's; its own protocols and limits are not used.
        limits: the server's limits.
        counts: metrics, kept current.
        tls: for HTTPS, in place of uvicorn's certificates; called for each connection.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: HttpLimits,
        counts: ConnectionCounts | None = None,
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config.timeout_keep_alive = limits.keep_alive_seconds  # type: ignore[assignment] # given to call_later
        super().__init__(config)
        room = room_for(limits.connections.max_connections)
        self.connections = Connections(limits, counts, max_connections=room, clock=clock)
        self._tls = tls
        self._sweeping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve on ``sockets``, which listen."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        # uvicorn closes them and waits for that, which ``Listener`` can do as well.
        self.servers = cast(
            "list[asyncio.Server]",
            [
                Listener(listener, self.connections, self._protocol, self._contexts())
                for listener in sockets or ()
            ],
        )
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep connections")
        self.started = True

    def _contexts(self) -> Callable[[], ssl.SSLContext] | None:
        context = self.config.ssl
        return self._tls if context is None else lambda: context

    def _protocol(self, connection: Connection) -> asyncio.Protocol:
        return BoundedProtocol(
            self.config, self.server_state, self.lifespan.state, self.connections, connection
        )

    def _sweep(self) -> Coroutine[None, None, None]:
        limits = self.connections.limits
        settings = limits.connections
        shortest = min(
            limits.keep_alive_seconds,
            settings.header_timeout_seconds,
            settings.request_timeout_seconds,
            settings.write_timeout_seconds,
        )
        seconds = min(LONGEST_SWEEP_SECONDS, shortest / 4)
        return repeat("sweep of connections", seconds, self.connections.sweep)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop gracefully."""
        try:
            await super().shutdown(sockets)
        finally:
            self.end()

    def end(self) -> None:
        """Abort all connections that are left."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.connections.abort_all()
