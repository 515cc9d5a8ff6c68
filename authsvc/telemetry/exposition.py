"""Serves ``/metrics`` on a port of its own: a scraper is not one of the callers.

``prometheus_client.start_http_server`` bounds neither its connections nor their time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from authsvc.common.settings import ConfigError
from authsvc.net.addresses import split, with_port

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""Open connections, each with a thread. A new one beyond it ends the oldest."""

CONNECTION_SECONDS = 15.0
"""Time for a whole scrape, from the connection to the last byte."""

PAUSE_SECONDS = 0.5
"""Pause before the next connection is accepted, if the process has no file descriptor left."""

LOG_SECONDS = 1.0

_Request = socket.socket | tuple[bytes, socket.socket]  # as socketserver has it; of TCP, the first


@contextlib.asynccontextmanager
async def exposed(registry: CollectorRegistry, listen: str) -> AsyncIterator[str]:
    """Serve a registry over HTTP, from threads of its own.

    Args:
        registry: the metrics.
        listen: ``host:port``; port 0 is any free one.

    Yields:
        The address that it listens on.

    Raises:
        ConfigError: it cannot be listened on.
    """
    try:
        server = await asyncio.to_thread(_server, *split(listen), registry)
    except OSError as error:
        reason = f"{listen} cannot be listened on; is it taken? ({error.strerror})"
        raise ConfigError(f"metrics.listen: {reason}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield with_port(listen, server.server_port)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)


def _server(host: str, port: int, registry: CollectorRegistry) -> WSGIServer:
    family = socket.getaddrinfo(host or None, port, flags=socket.AI_PASSIVE)[0][0]
    kind = type("_Server", (_BoundedServer,), {"address_family": family})
    return make_server(host, port, make_wsgi_app(registry), kind, _Handler)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Log nothing: scrapes are frequent."""


class _BoundedServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, bounded in number and in time."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        # When each connection was accepted, oldest first.
        self._open: dict[_Request, float] = {}
        self._lock = threading.Lock()
        self._warned_at = float("-inf")
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError as error:
            # socketserver would try again at once, in a busy loop.
            self._warn("no connection for metrics can be taken: %s", error.strerror)
            time.sleep(PAUSE_SECONDS)
            raise

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection. If there are too many, end the oldest one."""
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= MAX_CONNECTIONS else None
            if oldest is not None:
                self._open.pop(oldest)
                self._end(oldest)
            self._open[request] = time.monotonic()
        if oldest is not None:
            self._warn("more than %d connections for metrics: the oldest ends", MAX_CONNECTIONS)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        """Close a connection that has been served."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that take too long; called twice a second."""
        super().service_actions()
        before = time.monotonic() - CONNECTION_SECONDS
        with self._lock:
            for request in [request for request, began in self._open.items() if began <= before]:
                self._open.pop(request)
                self._end(request)

    @staticmethod
    def _end(request: _Request) -> None:
        """Shut a connection down. The thread that reads or writes it then closes it."""
        if not isinstance(request, socket.socket):  # never with TCP
            return
        with contextlib.suppress(OSError):  # it has ended by itself
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Log a failed scrape for debugging only: its client sees the failure."""
        log.debug("a scrape failed: %r", sys.exception())

    def _warn(self, message: str, *args: object) -> None:
        now = time.monotonic()
        if now - self._warned_at >= LOG_SECONDS:
            self._warned_at = now
            log.warning(message, *args)
