"""A TCP proxy on loopback that delays, cuts or freezes connections, or only a replica's feed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16

FEED_WORDS = (b"XREAD", b"SUBSCRIBE")
"""Commands that only the client of a feed sends."""


class Proxy:
    """A running proxy, made by ``proxied``. Its methods are for the event loop that it runs on.

    Attributes:
        port: where it listens.
        delay_seconds: delay of each chunk, in both directions. The order is kept.
    """

    def __init__(self, upstream: tuple[str, int], feed_words: Iterable[bytes]) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        self._upstream = upstream
        self._feed_words = tuple(feed_words)
        self._cut = _Fault()
        self._frozen = _Fault()
        self._links: dict[_Link, asyncio.Task[object] | None] = {}
        self._lost_answer = b""

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        return HOST, self.port

    @property
    def url(self) -> str:
        """``redis://…``, as of a server."""
        return f"redis://{HOST}:{self.port}"

    def connections(self, *, feed_only: bool = False) -> int:
        """The number of open connections."""
        return sum(link.is_feed or not feed_only for link in self._links)

    def cut(self, *, feed_only: bool = False) -> None:
        """Close open connections and, until ``mend``, new ones."""
        self._cut.begin(feed_only)
        for link in list(self._links):
            if self._cut.affects(link):
                link.close()

    def freeze(self, *, feed_only: bool = False) -> None:
        """Forward nothing until ``mend``: connections stay open, and new ones are accepted."""
        self._frozen.begin(feed_only)

    def lose_answer(self, word: bytes) -> None:
        """Forward the next command with a word, and close its connection instead of the answer."""
        self._lost_answer = word

    def mend(self) -> None:
        """End cut, freeze and delay. Held chunks are forwarded."""
        self.delay_seconds = 0.0
        self._cut.end()
        self._frozen.end()

    async def close(self) -> None:
        """Close every connection, and wait for their tasks."""
        self.mend()
        self.cut()
        tasks = [task for task in self._links.values() if task is not None]
        await asyncio.gather(*tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until it ends."""
        link = _Link(writer, self._feed_words)
        self._links[link] = asyncio.current_task()
        try:
            # The server is unavailable: closing the connection shows it to the client.
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
        directions = (
            asyncio.create_task(self._carry(link, reader, link.upstream, from_client=True)),
            asyncio.create_task(self._carry(link, upstream_reader, writer, from_client=False)),
        )
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _carry(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        from_client: bool,
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._pass(link, chunk if from_client else b"")
            if from_client and self._lost_answer and self._lost_answer in chunk:
                self._lost_answer, link.loses_answer = b"", True
            elif not from_client and link.loses_answer:
                raise ConnectionAbortedError
            writer.write(chunk)
            await writer.drain()

    async def _pass(self, link: _Link, sent: bytes) -> None:
        """Delay a chunk as the faults require.

        Raises:
            ConnectionAbortedError: the connection is cut.
        """
        link.observe(sent)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        while self._frozen.affects(link):
            await self._frozen.over.wait()
        if self._cut.affects(link):
            raise ConnectionAbortedError


class _Fault:
    """Which connections a fault affects, and its end."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.over.set()
        self._feed_only = False

    def begin(self, feed_only: bool) -> None:
        self._feed_only = feed_only
        self.over.clear()

    def end(self) -> None:
        self.over.set()

    def affects(self, link: _Link) -> bool:
        return not self.over.is_set() and (link.is_feed or not self._feed_only)


class _Link:
    """One connection, and whether it is a feed."""

    def __init__(self, writer: asyncio.StreamWriter, feed_words: tuple[bytes, ...]) -> None:
        self.upstream: asyncio.StreamWriter | None = None
        self.is_feed = False
        self.loses_answer = False
        self._writer = writer
        self._feed_words = feed_words
        self._kept = max(map(len, feed_words), default=1) - 1
        self._tail = b""

    def observe(self, chunk: bytes) -> None:
        if not self.is_feed:
            # A command may be split over two chunks.
            from_client = self._tail + chunk
            self.is_feed = any(word in from_client for word in self._feed_words)
            self._tail = from_client[-self._kept :]

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
    """A proxy in front of a server, closed at the end of the block.

    Args:
        upstream: (host, port) of the server, which may start later.
        feed_words: a connection whose client sends one of them is a feed.
        tls: the server side of TLS to clients; None for plain text. Upstream is plain text.
    """
    proxy = Proxy(upstream, feed_words)
    server = await asyncio.start_server(proxy.serve, HOST, 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        # Not wait_closed(): it waits for clients, whose connections are closed below.
        server.close()
        await proxy.close()
