"""``ResolveSessionStream`` on the client's side: one stream that all requests to a replica share.

Requests that arrive while a batch is being written form the next batch. An idle caller waits for
nothing, and a busy one shares the cost of a message among many requests.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from grpc import aio

from authsvc.client.failures import (
    TIMED_OUT,
    AttemptError,
    Failure,
    failure_of,
    failure_of_status,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.v1 import auth_pb2 as pb

MAX_ENTRIES = 256
"""The most requests in one batch; a server rejects more."""

BATCH_BYTES = 512 * 1024
"""Approximate size of a batch; a server accepts 1 MiB."""

_ENDED = Failure(AuthError(Reason.SERVICE_UNAVAILABLE, "the stream has ended"), may_repeat=True)
"""The server stops: it has answered what it had read, and ended the stream with OK."""

Call = aio.StreamStreamCall[pb.ResolveSessionStreamRequest, pb.ResolveSessionStreamResponse]


class ResolveStream:
    """One stream. Ends with its connection, or after ``finish``.

    Args:
        call: the RPC, which nothing else uses.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._ids = itertools.count(1)
        self._outbox: deque[tuple[int, pb.ResolveSessionRequest, str]] = deque()
        self._abandoned: list[int] = []
        self._waiting: dict[int, asyncio.Future[pb.ResolveSessionResponse]] = {}
        self._wake = asyncio.Event()
        self._finishing = False
        self._ended: Failure | None = None
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())
        call.add_done_callback(self._stop_writing)

    @property
    def usable(self) -> bool:
        """Whether it accepts requests."""
        return self._ended is None and not self._finishing

    async def ask(
        self, request: pb.ResolveSessionRequest, timeout_seconds: float, traceparent: str = ""
    ) -> pb.ResolveSessionResponse:
        """The answer to one request.

        Args:
            request: the request.
            timeout_seconds: how long the caller waits.
            traceparent: the caller's trace context; empty without one.

        Raises:
            AttemptError: why there is no answer.
        """
        if self._ended is not None:
            raise AttemptError(self._ended)
        request_id = next(self._ids)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[pb.ResolveSessionResponse] = loop.create_future()
        self._waiting[request_id] = answer
        self._outbox.append((request_id, request, traceparent))
        self._wake.set()
        # Much cheaper than asyncio.timeout, and on the hot path.
        deadline = loop.call_later(timeout_seconds, _time_out, answer)
        try:
            return await answer
        finally:
            deadline.cancel()
            if self._waiting.pop(request_id, None) is not None:
                # Its caller was cancelled or timed out, so the server may cancel it.
                self._abandoned.append(request_id)
                self._wake.set()

    def finish(self) -> None:
        """Accept no more requests; those in flight are answered."""
        self._finishing = True
        self._wake.set()

    def on_end(self, callback: Callable[[ResolveStream], None]) -> None:
        """Call ``callback`` once it has ended."""
        self._reader.add_done_callback(lambda _: callback(self))

    async def end(self, grace_seconds: float = 0.0) -> None:
        """Finish within ``grace_seconds``; requests in flight fail after that."""
        self.finish()
        await asyncio.wait((self._reader,), timeout=grace_seconds)
        self._call.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)

    async def _write(self) -> None:
        # The reader reports what ended the stream.
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            while self._ended is None:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox or self._abandoned:
                    await self._call.write(self._next_batch())
                if self._finishing:
                    await self._call.done_writing()
                    return

    def _stop_writing(self, _: object) -> None:
        # A write in progress would fail, and replace the server's status with INTERNAL.
        self._writer.cancel()

    def _next_batch(self) -> pb.ResolveSessionStreamRequest:
        abandoned, self._abandoned = self._abandoned, []
        batch = pb.ResolveSessionStreamRequest(cancelled_request_ids=abandoned)
        size = 0
        while self._outbox and len(batch.entries) < MAX_ENTRIES and size < BATCH_BYTES:
            request_id, request, traceparent = self._outbox.popleft()
            answer = self._waiting.get(request_id)
            if answer is not None and not answer.done():
                batch.entries.add(request_id=request_id, request=request, traceparent=traceparent)
                size += len(request.token)
        return batch

    async def _read(self) -> None:
        failure = _ENDED
        try:
            # `read` would stop at a write that failed, with answers and the status still to come.
            async for batch in self._call:
                for entry in batch.entries:
                    self._answered(entry)
        except aio.AioRpcError as error:
            failure = failure_of(error)
        finally:
            self._ended = failure
            self._wake.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(AttemptError(failure))
            self._waiting.clear()

    def _answered(self, entry: pb.ResolveSessionStreamResponse.Entry) -> None:
        answer = self._waiting.pop(entry.request_id, None)
        if answer is None or answer.done():
            return
        if entry.HasField("response"):
            answer.set_result(entry.response)
        else:
            answer.set_exception(AttemptError(failure_of_status(entry.error)))


def _time_out(answer: asyncio.Future[pb.ResolveSessionResponse]) -> None:
    if not answer.done():
        answer.set_exception(AttemptError(TIMED_OUT))
