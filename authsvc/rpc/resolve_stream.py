"""One ``ResolveSessionStream``: batches in, answers out as they come. Decides nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import Protocol

from grpc import aio

from authsvc.access.callers import Caller
from authsvc.domain.errors import AuthError, Reason
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.rpc.admission import Admission, Context, Edge, Stay, encoded_status_of
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire

MAX_ENTRIES = 256
"""Requests in one batch."""

MAX_UNANSWERED = 1024
"""Entries of one stream that are waited for; beyond it nothing more is read."""

BATCH_BYTES = 256 * 1024
"""Answers that are written at once, and a bit more: a client takes 4 MiB unless it says so."""


class Answers(Protocol):
    """Answers requests."""

    def recall(self, request_digest: bytes, caller: Caller) -> bytes | None:
        """The encoded ``ResolveSessionResponse``, where it can be had without waiting.

        Args:
            request_digest: of the encoded request.
            caller: who asks.

        Raises:
            AuthError: OVERLOADED.
        """
        ...

    def rejection(self, request: pb.ResolveSessionRequest, caller: Caller) -> AuthError | None:
        """Why a request is rejected before any work on it; None where it is not.

        Args:
            request: what is asked.
            caller: who asks.

        Raises:
            AuthError: OVERLOADED.
        """
        ...

    def resolve(
        self,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> Awaitable[bytes]:
        """The encoded ``ResolveSessionResponse``, for a call that has been let in.

        Raises:
            AuthError: why there is none.
        """
        ...

    def refused(self, error: Exception) -> None:
        """Take notice of a request that has been answered with an error."""
        ...


class ResolveStream:
    """One stream, from its begin to its end.

    Whoever is identified at the beginning is identified again with each batch, and twice a second
    until the last answer: a service token that is withdrawn ends its streams.

    Args:
        context: of the RPC.
        edge: lets each entry in, as if it were a call.
        stay: the stream itself, as one of its caller's.
        answers: answers it.
    """

    def __init__(self, context: Context, edge: Edge, stay: Stay, answers: Answers) -> None:
        self._context = context
        self._edge = edge
        self._stay = stay
        self._answers = answers
        self._under_way: dict[int, asyncio.Task[None]] = {}
        # What comes before each message, and the message.
        self._outbox: deque[bytes] = deque()
        self._writing = asyncio.Lock()
        self._writers: set[asyncio.Task[None]] = set()
        self._awaits_client = False
        self._stopped = False

    async def serve(self, stopping: asyncio.Event) -> None:
        """Serve until the client has closed its side, or the server stops.

        Raises:
            AuthError: CALLER_NOT_ALLOWED or ARGUMENT_INVALID, for the stream as a whole.
        """
        reading = asyncio.create_task(self._read())
        stop = asyncio.create_task(stopping.wait())
        try:
            await self._stay.first_done((reading, stop))
            self._stopped = True
            if self._awaits_client:
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if not reading.cancelled():
                reading.result()
            while left := {*self._under_way.values(), *self._writers}:
                await self._stay.first_done(left)
        except AuthError:
            await self._stop_writing(reading)
            raise
        finally:
            tasks = (reading, stop, *self._under_way.values(), *self._writers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop_writing(self, reading: asyncio.Task[None]) -> None:
        """Drop what is not written yet, and wait for the write that is under way.

        gRPC refuses the end of a call beside a write, even if the task that wrote is cancelled: the
        client would wait for ever.
        """
        self._stopped = True
        if self._awaits_client:
            reading.cancel()
        for task in self._under_way.values():
            task.cancel()
        self._outbox.clear()
        async with self._writing:
            pass

    async def _read(self) -> None:
        while not self._stopped:
            self._awaits_client = True
            batch = await self._context.read()
            self._awaits_client = False
            if batch is aio.EOF:
                return
            self._begin(batch)
            await self._flush()
            while len(self._under_way) >= MAX_UNANSWERED:
                await asyncio.wait(self._under_way.values(), return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, batch: RequestFrames) -> None:
        caller = self._stay.identify()
        for request_id in batch.cancelled_request_ids:
            if (task := self._under_way.get(request_id)) is not None:
                task.cancel()
        if len(batch.entries) > MAX_ENTRIES:
            raise AuthError(Reason.ARGUMENT_INVALID, f"more than {MAX_ENTRIES} entries")
        for entry in batch.entries:
            if entry.request_id in self._under_way:
                raise AuthError(Reason.ARGUMENT_INVALID, "a request_id is in use")
            self._begin_entry(entry, caller)

    def _begin_entry(self, entry: RequestFrames.Frame, caller: Caller) -> None:
        request_id, encoded = entry.request_id, entry.request
        request_digest = wire.request_digest(encoded)
        try:
            answer = self._answers.recall(request_digest, caller)
            if answer is not None:
                self._answer(request_id, wire.RESPONSE, answer)
                return
            request = wire.request_of(encoded)
            if (rejection := self._answers.rejection(request, caller)) is not None:
                self._fail(request_id, rejection)
                return
            admission = self._edge.admitted_for(request.resource, self._context, caller)
            admission.__enter__()
        except AuthError as error:
            self._fail(request_id, error)
            return
        work = self._resolve(request_id, request, request_digest, caller, entry.traceparent)
        task = asyncio.create_task(work)
        self._under_way[request_id] = task
        task.add_done_callback(partial(self._ended, request_id, admission))

    def _ended(self, request_id: int, admission: Admission, task: asyncio.Task[None]) -> None:
        # Here and not in the task, which may be cancelled before it has begun.
        admission.end()
        del self._under_way[request_id]

    async def _resolve(
        self,
        request_id: int,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> None:
        try:
            answer = await self._answers.resolve(request, request_digest, caller, traceparent)
        except Exception as error:  # noqa: BLE001 - one entry's failure is not the stream's
            self._fail(request_id, error)
        else:
            self._answer(request_id, wire.RESPONSE, answer)
        self._write_soon()

    def _fail(self, request_id: int, error: Exception) -> None:
        self._answers.refused(error)
        self._answer(request_id, wire.ERROR, encoded_status_of(error))

    def _answer(self, request_id: int, result: int, message: bytes) -> None:
        self._outbox.append(wire.entry_head(request_id, result, len(message)))
        self._outbox.append(message)

    async def _flush(self) -> None:
        """Write what there is, before more is read: a client that does not read is not read."""
        await self._write()
        while self._writers and len(self._outbox) > 2 * MAX_ENTRIES:
            await asyncio.wait(self._writers)

    def _write_soon(self) -> None:
        if not self._writing.locked():
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._written)

    def _written(self, writer: asyncio.Task[None]) -> None:
        self._writers.discard(writer)
        # The client may be gone, and then the whole stream ends.
        if not writer.cancelled():
            writer.exception()

    async def _write(self) -> None:
        """Write all that has come: what comes while a batch is on its way is in the next one."""
        if self._writing.locked():
            return
        async with self._writing:
            while self._outbox:
                await self._context.write(self._next_batch())

    def _next_batch(self) -> bytes:
        batch, size = [], 0
        while self._outbox and size < BATCH_BYTES:
            batch.append(self._outbox.popleft())
            batch.append(message := self._outbox.popleft())
            size += len(message)
        return b"".join(batch)
