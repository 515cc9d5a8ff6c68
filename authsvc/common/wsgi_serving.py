"""Serves a small document over HTTP on a port of its own, from threads: metrics, a JWK Set.

The servers of the standard library and of ``prometheus_client`` bound neither their connections nor
their time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from authsvc.common.listening import bound, port_of
from authsvc.net.addresses import with_port

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""Open connections, each with a thread. A new one beyond it ends the oldest."""

MAX_PENDING_CONNECTIONS = 128
"""Connections that wait to be accepted. socketserver has 5, and many servers that start together
fetch keys at once: a connection beyond it is tried again after seconds."""

CONNECTION_SECONDS = 15.0
"""Time for a whole request, from the connection to the last byte."""

PAUSE_SECONDS = 0.5
"""Pause before the next connection is accepted, if the process has no file descriptor left."""

LOG_SECONDS = 1.0

_Request = socket.socket | tuple[bytes, socket.socket]  # as socketserver has it; of TCP, the first


@contextlib.asynccontextmanager
async def served(
    application: WSGIApplication,
    listen: str,
    *,
    name: str,
    setting: str,
    context: Callable[[], ssl.SSLContext] | None = None,
    shares_port: bool = False,
) -> AsyncIterator[str]:
    """Serve an application over HTTP, from threads of its own.

    Args:
        application: what is served.
        listen: ``host:port``; port 0 is any free one.
        name: of what is served, for the log.
        setting: the setting of the address, for the error.
        context: for HTTPS; called for each connection. None for HTTP.
        shares_port: whether other processes listen on the same port.

    Yields:
        The address that it listens on.

    Raises:
        ConfigError: as ``bound``.
    """
    with bound(
        listen, setting=setting, shares_port=shares_port, backlog=MAX_PENDING_CONNECTIONS
    ) as sockets:
        servers = [_BoundedServer(it, application, what=name, context=context) for it in sockets]
        threads = [
            threading.Thread(target=it.serve_forever, name=name, daemon=True) for it in servers
        ]
        for thread in threads:
            thread.start()
        try:
            yield with_port(listen, port_of(sockets))
        finally:
            await asyncio.gather(*(asyncio.to_thread(it.shutdown) for it in servers))
            for thread in threads:
                await asyncio.to_thread(thread.join)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Log nothing: requests are frequent."""


class _BoundedServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, bounded in number and in time.

    Args:
        listener: listens already.
        application: what is served.
        what: its name, for the log.
        context: for HTTPS; None for HTTP.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        what: str,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._what = what
        self._context = context
        # When each connection was accepted, oldest first.
        self._open: dict[_Request, float] = {}
        self._lock = threading.Lock()
        self._warned_at = float("-inf")
        self.server_name, self.server_port = listener.getsockname()[:2]
        super().__init__((self.server_name, self.server_port), _Handler, bind_and_activate=False)
        self.socket.close()  # which socketserver has made, and not bound
        self.socket = listener
        self.setup_environ()
        self.set_app(application)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection. The thread that serves it does the handshake of TLS."""
        try:
            request, address = super().get_request()
        except OSError as error:
            # socketserver would try again at once, in a busy loop.
            self._warn("no connection for %s can be taken: %s", self._what, error.strerror)
            time.sleep(PAUSE_SECONDS)
            raise
        if self._context is None:
            return request, address
        try:
            wrapped = self._context().wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        except OSError:
            request.close()
            raise
        return wrapped, address

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection. If there are too many, end the oldest one."""
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= MAX_CONNECTIONS else None
            if oldest is not None:
                self._open.pop(oldest)
                self._end(oldest)
            self._open[request] = time.monotonic()
        if oldest is not None:
            self._warn(
                "more than %d connections for %s: the oldest ends", MAX_CONNECTIONS, self._what
            )
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
        """Log a failed request for debugging only: its client sees the failure."""
        log.debug("a request for %s failed: %r", self._what, sys.exception())

    def _warn(self, message: str, *args: object) -> None:
        now = time.monotonic()
        if now - self._warned_at >= LOG_SECONDS:
            self._warned_at = now
            log.warning(message, *args)
