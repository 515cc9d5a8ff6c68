"""The stream of a replica, which is kept connected beside the replica's channel."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable

from authsvc.client.http2.connecting import connect
from authsvc.client.http2.connection import Connection
from authsvc.client.stream import ResolveStream
from authsvc.client.targets import Endpoint
from authsvc.client.tls import Metadata
from authsvc.common.printable import printable
from authsvc.wire.errors import STATUS_DETAILS_KEY

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 1.0
"""Between two attempts to connect; doubled from the first to the longest."""

LASTING_SECONDS = 1.0
"""A connection that lasts shorter counts as a failed attempt."""

REPORTED_FAILURES = 5
"""So many failed attempts in sequence are logged: one or two are usual when a server restarts."""


class Streams:
    """The current stream to one replica, and those that finish.

    A connection carries one stream. It is made beforehand, and again as soon as it is lost or the
    server ends it, for its age perhaps.

    Args:
        name: of the replica, in logs.
        endpoint: where it listens.
        context: verifies it; None in the clear.
        until_reachable: returns once the replica can be connected to.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        until_reachable: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._context = context
        self._until_reachable = until_reachable
        self._connection: Connection | None = None
        self._stream: ResolveStream | None = None
        self._finishing: set[ResolveStream] = set()

    def current(self, metadata: Metadata) -> ResolveStream | None:
        """The stream; None while there is no connection.

        Args:
            metadata: authenticates the caller now. A stream that has shown anything else finishes.
        """
        stream = self._stream
        if stream is not None:
            if stream.usable and stream.metadata == metadata:
                return stream
            self._finish_stream()
        connection = self._connection
        if connection is None or not connection.is_usable:
            return None
        self._connection = None
        self._stream = ResolveStream(connection, metadata)
        return self._stream

    async def follow(self) -> None:
        """Keep a connection up."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            await self._until_reachable()
            since = loop.time()
            cause = await self._hold_connection()
            if not cause and loop.time() - since >= LASTING_SECONDS:
                failures = 0
                continue
            failures += 1
            if failures == REPORTED_FAILURES:
                why = cause or "connections do not last"
                log.warning(
                    "no stream to authsvc at %s (%s): it is called instead", self._name, why
                )
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter

    async def close(self, grace_seconds: float) -> None:
        """Close all connections, once their requests are answered or ``grace_seconds`` have passed.
        To be called once ``follow`` is cancelled."""
        self._finish_stream()
        closing = [stream.end(grace_seconds) for stream in self._finishing]
        if self._connection is not None:
            closing.append(self._connection.shut(grace_seconds))
        await asyncio.gather(*closing)

    async def _hold_connection(self) -> str:
        """Connect, and wait until the connection accepts no new stream; why it cannot be made."""
        try:
            connection = await connect(self._endpoint, self._context, STATUS_DETAILS_KEY)
        except OSError as error:
            return printable(str(error)) or type(error).__name__
        self._connection = connection
        await asyncio.wait((connection.outdated,))
        if self._connection is connection:
            self._connection = None
            connection.close()
        self._finish_stream()
        return ""

    def _finish_stream(self) -> None:
        """Let the stream finish its requests; the next one needs another connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish()
            self._finishing.add(stream)
            stream.on_end(self._finishing.discard)
