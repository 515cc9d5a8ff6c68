"""A server beside others in one program, which handles the signals itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from authsvc.http_server.server import BoundedServer
from authsvc.http_server.settings import HttpLimits


class EmbeddedServer(BoundedServer):
    """A server that handles no signals, and that can be waited for until it serves.

    Args:
        config: uvicorn's; its own protocols and limits are not used.
        limits: the server's limits.
        tls: for HTTPS, in place of uvicorn's certificates; called for each connection.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: HttpLimits,
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        super().__init__(config, limits, tls=tls)
        self._ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve on ``sockets``."""
        await super().startup(sockets)
        self._ready.set()

    async def is_ready(self, serving: asyncio.Task[None]) -> None:
        """Wait until it serves. If it ends instead, raise what it ended with."""
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, serving), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if serving.done():
            serving.result()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle none: its program does."""
        yield
