"""A TCP proxy on loopback that delays, cuts or freezes what passes, or a replica's feed alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16

FEED_WORDS = (b"XREAD", b"SUBSCRIBE")
"""What only the client of a feed says."""


class Proxy:
    """A proxy under way, made by ``proxied``. Its methods are for the event loop that it runs on.

    Attributes:
        port: where it listens.
        delay_seconds: how long each chunk is held back, in both directions; order is kept.
    """

    def __init__(self, upstream: tuple[str, int], feed_words: Iterable[bytes]) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        self._upstream = upstream
        self._feed_words = tuple(feed_words)
        self._cut = _Fault()
        self._frozen = _Fault()
        self._links: dict[_Link, asyncio.Task[object] | None] = {}

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        return HOST, self.port

    @property
    def url(self) -> str:
        """As a server's: ``redis://…``."""
        return f"redis://{HOST}:{self.port}"

    def connections(self, *, feed_only: bool = False) -> int:
        """How many there are now."""
        return sum(link.is_feed or not feed_only for link in self._links)

    def cut(self, *, feed_only: bool = False) -> None:
        """Close connections, those there are and, until ``mend``, those that come."""
        self._cut.begin(feed_only)
        for link in list(self._links):
            if self._cut.befalls(link):
                link.close()

    def freeze(self, *, feed_only: bool = False) -> None:
        """Carry nothing until ``mend``: connections stay open, new ones are accepted, and nobody
        is told anything."""
        self._frozen.begin(feed_only)

    def mend(self) -> None:
        """Undo cut, freeze and delay. What was held back goes on its way."""
        self.delay_seconds = 0.0
        self._cut.end()
        self._frozen.end()

    async def close(self) -> None:
        """Close every connection, and wait until nothing is carried any more."""
        self.mend()
        self.cut()
        tasks = [task for task in self._links.values() if task is not None]
        await asyncio.gather(*tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until it ends."""
        link = _Link(writer, self._feed_words)
        self._links[link] = asyncio.current_task()
        try:
            # The server is away, or goes: the client is about to see that, too.
            with suppress(OSError):
                await self._pass(link, b"")
                await self._carry_both(link, reader, writer)
        finally:
            del self._links[link]
            link.close()

    async def _carry_both(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        upstream_reader, link.upstream = await asyncio.open_connection(*self._upstream)
        ways = (
            asyncio.create_task(self._carry(link, reader, link.upstream, heard=True)),
            asyncio.create_task(self._carry(link, upstream_reader, writer, heard=False)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        heard: bool,
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._pass(link, chunk if heard else b"")
            writer.write(chunk)
            await writer.drain()

    async def _pass(self, link: _Link, said: bytes) -> None:
        """Wait for as long as the faults have it.

        Raises:
            ConnectionAbortedError: the connection is cut.
        """
        link.hear(said)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        while self._frozen.befalls(link):
            await self._frozen.over.wait()
        if self._cut.befalls(link):
            raise ConnectionAbortedError


class _Fault:
    """Whom a fault befalls, and when it is over."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.over.set()
        self._feed_only = False

    def begin(self, feed_only: bool) -> None:
        self._feed_only = feed_only
        self.over.clear()

    def end(self) -> None:
        self.over.set()

    def befalls(self, link: _Link) -> bool:
        return not self.over.is_set() and (link.is_feed or not self._feed_only)


class _Link:
    """One connection, and whether it is a feed's."""

    def __init__(self, writer: asyncio.StreamWriter, feed_words: tuple[bytes, ...]) -> None:
        self.upstream: asyncio.StreamWriter | None = None
        self.is_feed = False
        self._writer = writer
        self._feed_words = feed_words
        self._kept = max(map(len, feed_words), default=1) - 1
        self._tail = b""

    def hear(self, chunk: bytes) -> None:
        if not self.is_feed:
            # A word may come in two pieces.
            heard = self._tail + chunk
            self.is_feed = any(word in heard for word in self._feed_words)
            self._tail = heard[-self._kept :]

    def close(self) -> None:
        for writer in (self._writer, self.upstream):
            if writer is not None:
                writer.transport.abort()


@asynccontextmanager
async def proxied(
    upstream: tuple[str, int],
    *,
    feed_words: Iterable[bytes] = FEED_WORDS,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy in front of a server, for as long as it is needed.

    Args:
        upstream: (host, port) of the server; it need not be there yet.
        feed_words: a connection whose client has said one of them is a feed's.
        tls: how to speak TLS to clients; None for plain text. The way upstream is plain.
    """
    proxy = Proxy(upstream, feed_words)
    server = await asyncio.start_server(proxy.serve, HOST, 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        # Not wait_closed(): it waits for clients, and these are cut off below.
        server.close()
        await proxy.close()
