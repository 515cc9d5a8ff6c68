"""The bounded HTTP server with a test's app, and clients that send any bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.http_server.connections import Connections
from authsvc.http_server.server import BoundedServer
from authsvc.http_server.settings import ConnectionSettings, HttpLimits
from tests.support.clock import Clock

BOUND_SECONDS = 60.0

GET = b"GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\n"


@dataclass
class Served:
    """A running server.

    Attributes:
        address: where it listens.
        connections: its own.
        clock: by which it ends them.
        server: itself.
        requests: what its app was asked, by method, path and body.
    """

    address: tuple[str, int]
    connections: Connections
    clock: Clock
    server: BoundedServer
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None) -> Peer:
        """A new connection."""
        name = "localhost" if tls else None
        async with asyncio.timeout(BOUND_SECONDS):
            return Peer(
                *await asyncio.open_connection(*self.address, ssl=tls, server_hostname=name)
            )

    async def send(self, data: bytes) -> Peer:
        """A new connection on which something is sent."""
        peer = await self.connect()
        await peer.send(data)
        return peer

    async def says(self, data: bytes) -> bytes:
        """All that is answered on a connection of its own, to its end."""
        async with await self.send(data) as peer:
            return await peer.rest()

    async def until(self, condition: Callable[[Served], object]) -> None:
        """Wait for something that follows from what was sent."""
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition(self):  # noqa: ASYNC110 - of many things, few have events
                await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the server look after its connections."""
        self.clock.advance(seconds)
        self.connections.sweep()


@dataclass
class Peer:
    """A client's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        async with asyncio.timeout(BOUND_SECONDS):
            await self.writer.drain()

    async def rest(self) -> bytes:
        """What is received until the server closes; a reset is an end as well."""
        received = b""
        async with asyncio.timeout(BOUND_SECONDS):
            try:
                while data := await self.reader.read(65536):
                    received += data
            except ConnectionError:
                pass
        return received

    async def head(self) -> bytes:
        """The head of an answer."""
        async with asyncio.timeout(BOUND_SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes]:
        """One answer that has a length: its status, and its body."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        async with asyncio.timeout(BOUND_SECONDS):
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(
    app: ASGIApp | None = None,
    *,
    max_header_bytes: int = 8192,
    keep_alive_seconds: float = 75.0,
    tls: tuple[str, str] | None = None,
    **changes: float,
) -> AsyncIterator[Served]:
    """A server on a free port of loopback.

    Args:
        app: what it serves; by default, the length of a request's body.
        max_header_bytes: as ``HttpLimits``.
        keep_alive_seconds: as ``HttpLimits``.
        tls: files of a certificate and its key.
        changes: to ``ConnectionSettings``.
    """
    clock = Clock()
    requests: list[tuple[str, str, bytes]] = []

    async def lengths(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        requests.append((scope["method"], scope["path"], body))
        response = str(len(body)).encode()
        headers = [(b"content-length", str(len(response)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": response})

    config = uvicorn.Config(
        app or lengths,
        log_config=None,
        access_log=False,
        http="httptools",
        ws="none",
        lifespan="off",
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
    )
    config.load()
    limits = HttpLimits(
        ConnectionSettings.model_validate(changes),
        keep_alive_seconds=keep_alive_seconds,
        max_header_bytes=max_header_bytes,
    )
    server = BoundedServer(config, limits, clock=clock)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup([listener])
        try:
            yield Served(listener.getsockname(), server.connections, clock, server, requests)
        finally:
            for listening in server.servers:
                listening.close()
                await listening.wait_closed()
            server.end()
            async with asyncio.timeout(BOUND_SECONDS):
                while server.server_state.connections:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0)
            # uvloop closes sockets a little later.
            for _ in range(3):
                await asyncio.sleep(0)
