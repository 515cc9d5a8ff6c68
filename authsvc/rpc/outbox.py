"""The unwritten responses of a ``ResolveSessionStream``: encoded entries, written in batches."""

from __future__ import annotations

import asyncio
from collections import deque

from authsvc.rpc.metadata import Context
from authsvc.wire import frames

BATCH_BYTES = 256 * 1024
"""Responses that are written at once, and one more: a client takes 4 MiB unless it says so."""


class Outbox:
    """Writes the entries of one stream, one batch at a time: entries that are added while a batch
    is being written are in the next one.

    Args:
        context: of the stream.
        max_unwritten: entries that may wait before ``flush`` waits for a write.
    """

    def __init__(self, context: Context, max_unwritten: int) -> None:
        self._context = context
        self._max_unwritten = max_unwritten
        # Alternately the head of an entry, and its message.
        self._parts: deque[bytes] = deque()
        self._writing = asyncio.Lock()
        self._writers: set[asyncio.Task[None]] = set()

    @property
    def writers(self) -> set[asyncio.Task[None]]:
        """The tasks that write."""
        return self._writers

    def add(self, request_id: int, result: int, message: bytes) -> None:
        """Add an entry.

        Args:
            request_id: of the request.
            result: which field of the entry: ``frames.RESPONSE`` or ``frames.ERROR``.
            message: the encoded message of the field.
        """
        self._parts.append(frames.entry_head(request_id, result, len(message)))
        self._parts.append(message)

    async def flush(self) -> None:
        """Write what there is. Waits while too much is unwritten, so that a client that does not
        read is not read from."""
        await self._write()
        while self._writers and len(self._parts) > 2 * self._max_unwritten:
            await asyncio.wait(self._writers)

    def write_soon(self) -> None:
        """Begin to write what there is. A write under way continues with it."""
        if not self._writing.locked():
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._written)

    async def close(self) -> None:
        """Drop what is unwritten, and wait for the write under way.

        gRPC rejects the end of a call beside a write, even if the task that wrote is cancelled: the
        client would wait for ever.
        """
        self._parts.clear()
        async with self._writing:
            pass

    def _written(self, writer: asyncio.Task[None]) -> None:
        self._writers.discard(writer)
        # Where the client is gone, the write fails, and the whole stream ends.
        if not writer.cancelled():
            writer.exception()

    async def _write(self) -> None:
        if self._writing.locked():
            return
        async with self._writing:
            while self._parts:
                await self._context.write(self._next_batch())

    def _next_batch(self) -> bytes:
        batch, size = [], 0
        while self._parts and size < BATCH_BYTES:
            batch.append(self._parts.popleft())
            batch.append(message := self._parts.popleft())
            size += len(message)
        return b"".join(batch)
