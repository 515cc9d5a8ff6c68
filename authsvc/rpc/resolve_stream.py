"""One ``ResolveSessionStream``: reads batches of requests, resolves each request in a task of its
own, and writes responses as they complete. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import ExitStack
from functools import partial
from typing import Protocol

from grpc import aio

from authsvc.access.callers import Caller
from authsvc.domain.errors import AuthError, Reason
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.rpc.admission import Admission
from authsvc.rpc.admitted_stream import AdmittedStream
from authsvc.rpc.errors import encoded_status_of
from authsvc.rpc.metadata import Context
from authsvc.rpc.outbox import Outbox
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import frames

MAX_ENTRIES = 256
"""Requests in one batch."""

MAX_UNANSWERED = 1024
"""Requests of one stream that are being resolved; beyond it no further batch is read."""


class Resolver(Protocol):
    """Resolves the requests of a stream."""

    def cached(self, request_digest: bytes, caller: Caller) -> bytes | None:
        """The encoded ``ResolveSessionResponse``, where it can be had without waiting.

        Args:
            request_digest: of the encoded request.
            caller: whose request it is.

        Raises:
            AuthError: OVERLOADED or RATE_LIMITED.
        """
        ...

    def rejection(self, request: pb.ResolveSessionRequest, caller: Caller) -> AuthError | None:
        """Why a request is rejected without a decision; None where it is not.

        Args:
            request: to be resolved.
            caller: whose request it is.

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
        """The encoded ``ResolveSessionResponse``, for a call that is admitted.

        Raises:
            AuthError: why the request fails.
        """
        ...

    def failed(self, error: Exception) -> None:
        """Count a request that has been answered with an error."""
        ...


class ResolveStream:
    """One stream, from begin to end. Its caller is identified again with each batch.

    Args:
        context: of the RPC.
        admission: admits each entry, as if it were a call.
        stream: the stream itself, as it was admitted.
        resolver: resolves the entries.
    """

    def __init__(
        self, context: Context, admission: Admission, stream: AdmittedStream, resolver: Resolver
    ) -> None:
        self._context = context
        self._admission = admission
        self._stream = stream
        self._resolver = resolver
        self._unanswered: dict[int, asyncio.Task[None]] = {}
        self._outbox = Outbox(context, MAX_ENTRIES)
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
            await self._stream.first_done((reading, stop))
            self._stop_reading(reading)
            await asyncio.gather(reading, return_exceptions=True)
            if not reading.cancelled():
                reading.result()
            while left := {*self._unanswered.values(), *self._outbox.writers}:
                await self._stream.first_done(left)
        except AuthError:
            self._stop_reading(reading)
            for unanswered in self._unanswered.values():
                unanswered.cancel()
            await self._outbox.close()
            raise
        finally:
            tasks = (reading, stop, *self._unanswered.values(), *self._outbox.writers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_reading(self, reading: asyncio.Task[None]) -> None:
        self._stopped = True
        if self._awaits_client:
            reading.cancel()

    async def _read(self) -> None:
        while not self._stopped:
            self._awaits_client = True
            batch = await self._context.read()
            self._awaits_client = False
            if batch is aio.EOF:
                return
            self._begin(batch)
            await self._outbox.flush()
            while len(self._unanswered) >= MAX_UNANSWERED:
                await asyncio.wait(self._unanswered.values(), return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, batch: RequestFrames) -> None:
        caller = self._stream.identify()
        for request_id in batch.cancelled_request_ids:
            if (task := self._unanswered.get(request_id)) is not None:
                task.cancel()
        if len(batch.entries) > MAX_ENTRIES:
            raise AuthError(Reason.ARGUMENT_INVALID, f"more than {MAX_ENTRIES} entries")
        for entry in batch.entries:
            if entry.request_id in self._unanswered:
                raise AuthError(Reason.ARGUMENT_INVALID, "a request_id is in use")
            self._begin_entry(entry, caller)

    def _begin_entry(self, entry: RequestFrames.Frame, caller: Caller) -> None:
        request_id, encoded = entry.request_id, entry.request
        request_digest = frames.request_digest(encoded)
        try:
            if (cached := self._resolver.cached(request_digest, caller)) is not None:
                self._outbox.add(request_id, frames.RESPONSE, cached)
                return
            request = frames.request_of(encoded)
            request.resource = caller.spelled(request.resource)
            if (rejection := self._resolver.rejection(request, caller)) is not None:
                raise rejection
            admitted = ExitStack()
            admitted.enter_context(
                self._admission.call_for(request.resource, self._context, caller)
            )
        except Exception as error:  # noqa: BLE001 - one entry's failure is not the stream's
            self._fail(request_id, error)
            return
        work = self._resolve(request_id, request, request_digest, caller, entry.traceparent)
        task = asyncio.create_task(work)
        self._unanswered[request_id] = task
        task.add_done_callback(partial(self._ended, request_id, admitted))

    def _ended(self, request_id: int, admitted: ExitStack, task: asyncio.Task[None]) -> None:
        # Here and not in the task, which may be cancelled before it has begun.
        admitted.close()
        del self._unanswered[request_id]

    async def _resolve(
        self,
        request_id: int,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> None:
        try:
            response = await self._resolver.resolve(request, request_digest, caller, traceparent)
        except Exception as error:  # noqa: BLE001 - one entry's failure is not the stream's
            self._fail(request_id, error)
        else:
            self._outbox.add(request_id, frames.RESPONSE, response)
        self._outbox.write_soon()

    def _fail(self, request_id: int, error: Exception) -> None:
        self._resolver.failed(error)
        self._outbox.add(request_id, frames.ERROR, encoded_status_of(error))
