"""The receiver of signals in a thread, with an event loop of its own.

Everyone on the network may connect to it. Its connections, TLS handshakes and requests have no turn
in the event loop that resolves: a thousand requests that arrive at once would hold that up for a
second, and its stores would count as out of date. What passes the receiver's own checks is
processed in that loop, ``MAX_IN_FLIGHT`` signals at once.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from authsvc.common import event_loop
from authsvc.http_server.embedded import EmbeddedServer
from authsvc.signals.errors import SignalError
from authsvc.signals.receiving import Receipt, SignalReceiver

MAX_IN_FLIGHT = 64
"""Signals that are processed at once; further ones wait in the receiver's loop."""


class AcrossLoops:
    """A ``SignalReceiver`` whose callers have another event loop. Belongs to theirs.

    Args:
        receiver: what is called.
        loop: where it is called.
    """

    def __init__(self, receiver: SignalReceiver, loop: asyncio.AbstractEventLoop) -> None:
        self._receiver = receiver
        self._loop = loop
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def receive_set(self, text: str, *, client_address: str) -> Receipt:
        """See ``SignalReceiver.receive_set``."""
        async with self._places:
            return await self._call(self._receiver.receive_set(text, client_address=client_address))

    async def receive_logout(self, text: str, *, client_address: str) -> Receipt:
        """See ``SignalReceiver.receive_logout``."""
        async with self._places:
            return await self._call(
                self._receiver.receive_logout(text, client_address=client_address)
            )

    def reject(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalReceiver.reject``."""
        report = partial(self._receiver.reject, issuer, error, client_address=client_address)
        self._loop.call_soon_threadsafe(report)

    def refuse(self, setting: str, *, client_address: str) -> None:
        """See ``SignalReceiver.refuse``."""
        report = partial(self._receiver.refuse, setting, client_address=client_address)
        self._loop.call_soon_threadsafe(report)

    async def _call(self, receiving: Coroutine[Any, Any, Receipt]) -> Receipt:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(receiving, self._loop))


@asynccontextmanager
async def serving_in_thread(
    server: EmbeddedServer, listeners: list[socket.socket]
) -> AsyncIterator[None]:
    """A server in a thread of its own, until the end of the block. It ends gracefully, for which
    the caller's event loop runs on.

    Args:
        server: the server; it ends by itself where its ``should_exit`` is set.
        listeners: the sockets that it listens with.

    Raises:
        BaseException: what the server ended with.
    """
    ready: Future[None] = Future()
    ended: Future[None] = Future()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(listeners), name="receive signals")
        await server.is_ready(serving)
        ready.set_result(None)
        await serving

    def work() -> None:
        try:
            event_loop.run(serve())
        except BaseException as error:  # noqa: BLE001 - it is raised where the block ends
            ended.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=work, name="receive signals", daemon=True)
    thread.start()
    begins, ends = asyncio.wrap_future(ready), asyncio.wrap_future(ended)
    try:
        await asyncio.wait({begins, ends}, return_when=asyncio.FIRST_COMPLETED)
        if begins.done():
            yield
    finally:
        server.should_exit = True
        await asyncio.shield(ends)
        thread.join()
