"""Servers on plain sockets that can be stopped while clients are still connected."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@asynccontextmanager
async def serving_tcp(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """A server on a free port of this machine.

    At the end its handlers are cancelled and its connections aborted. ``Server.wait_closed`` is
    not used: since Python 3.12 it waits until every client has gone, and some never do.

    Args:
        handler: as ``asyncio.start_server`` takes it.
        tls: how to speak TLS; None for plain text.

    Yields:
        Its host and port.
    """
    running: dict[asyncio.Task[object], asyncio.StreamWriter] = {}
    stopping = asyncio.Event()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[task] = writer
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            if not stopping.is_set():
                raise
        finally:
            del running[task]
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        stopping.set()
        left = dict(running)
        for task, writer in left.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
