"""``ResolveSessionStream`` on the client's side: one stream that all requests to a replica share.

Requests that arrive in one pass of the event loop form one batch, and so do those that arrive while
the server takes no more. An idle caller waits for nothing, and a busy one shares the cost of a
message among many requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from authsvc.client.failures import (
    UNREADABLE,
    AttemptError,
    Failure,
    failure_of_code,
    failure_of_status,
)
from authsvc.client.http2.connection import Connection
from authsvc.client.http2.status import CallEnd
from authsvc.client.tls import Metadata
from authsvc.client.waiting import WaitingRequests
from authsvc.domain.errors import AuthError, Reason
from authsvc.internal.v1.frames_pb2 import ResponseFrames
from authsvc.wire import frames

METHOD = "/authsvc.v1.AuthService/ResolveSessionStream"

MAX_ENTRIES = 256
"""The most requests in one batch; a server rejects more."""

BATCH_BYTES = 512 * 1024
"""Approximate size of a batch; a server accepts 1 MiB."""

_ENDED = Failure(AuthError(Reason.SERVICE_UNAVAILABLE, "the stream has ended"), may_repeat=True)
"""The server stops: it has answered what it had read, and ended the stream with OK."""


class ResolveStream:
    """One stream. Ends with its connection, or after ``finish``.

    Args:
        connection: a usable one, which nothing else uses.
        metadata: authenticates the caller.
    """

    def __init__(self, connection: Connection, metadata: Metadata) -> None:
        self.metadata = metadata
        """What it has authenticated the caller by."""
        loop = asyncio.get_running_loop()
        self._connection = connection
        # By request id. What is not sent is kept no longer than its caller waits.
        self._outbox: dict[int, tuple[bytes, str]] = {}
        self._abandoned: list[int] = []
        self._waiting = WaitingRequests(loop)
        self._is_finishing = False
        self._has_finished = False
        self._failure: Failure | None = None
        self._ended: asyncio.Future[None] = loop.create_future()
        connection.begin(METHOD, metadata, self)

    @property
    def usable(self) -> bool:
        """Whether it accepts requests."""
        return self._failure is None and not self._is_finishing

    async def ask(self, request: bytes, timeout_seconds: float, traceparent: str = "") -> bytes:
        """The answer to one request, an encoded ``ResolveSessionResponse``.

        Args:
            request: an encoded ``ResolveSessionRequest``.
            timeout_seconds: how long the caller waits.
            traceparent: the caller's trace context; empty without one.

        Raises:
            AttemptError: why there is no answer.
        """
        if self._failure is not None:
            raise AttemptError(self._failure)
        request_id, answer = self._waiting.add(timeout_seconds)
        self._outbox[request_id] = request, traceparent
        self._connection.flush_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            # It may have failed just before: the event loop logs what nobody has seen.
            if not answer.cancelled():
                answer.exception()
            raise
        finally:
            if self._waiting.remove(request_id):
                self._abandon(request_id, answer)

    def finish(self) -> None:
        """Accept no more requests; those in flight are answered."""
        self._is_finishing = True
        self._connection.retire()
        self._connection.flush_soon()

    def on_end(self, callback: Callable[[ResolveStream], None]) -> None:
        """Call ``callback`` once it has ended."""
        self._ended.add_done_callback(lambda _: callback(self))

    async def end(self, grace_seconds: float = 0.0) -> None:
        """Finish within ``grace_seconds``; requests in flight fail after that."""
        self.finish()
        await asyncio.wait((self._ended,), timeout=grace_seconds)
        await self._connection.shut(grace_seconds)

    def fill(self) -> None:
        """Send what has been asked. Called by the connection."""
        if self._has_finished:
            return
        while (self._outbox or self._abandoned) and self._connection.may_send:
            if parts := self._next_batch():
                self._connection.send(parts, sum(map(len, parts)))
        if self._is_finishing and not self._outbox:
            self._has_finished = True
            self._connection.finish()

    def message_received(self, message: bytes) -> None:
        """Answer the requests of a batch. Called by the connection."""
        try:
            batch = ResponseFrames.FromString(message)
        except DecodeError:
            return
        for entry in batch.entries:
            self._waiting.answer(entry.request_id, _result_of(entry))

    def going_away(self) -> None:
        """Let the requests in flight be answered. Called by the connection."""
        self.finish()

    def call_ended(self, end: CallEnd) -> None:
        """Fail the requests in flight. Called by the connection."""
        self._failure = (
            _ENDED
            if end.code is grpc.StatusCode.OK
            else failure_of_code(
                end.code, end.details, cause=end.cause, safe_to_retry=end.unprocessed
            )
        )
        self._outbox.clear()
        self._waiting.fail(self._failure)
        self._ended.set_result(None)

    def _abandon(self, request_id: int, answer: asyncio.Future[bytes]) -> None:
        """Have the server cancel a request whose caller was cancelled or timed out."""
        if self._outbox.pop(request_id, None) is None:
            self._abandoned.append(request_id)
            self._connection.flush_soon()
        if not answer.cancelled():
            self._connection.check()

    def _next_batch(self) -> list[bytes]:
        parts: list[bytes] = []
        if self._abandoned:
            parts.append(frames.cancelled(self._abandoned))
            self._abandoned.clear()
        size = 0
        for request_id in [*islice(self._outbox, MAX_ENTRIES)]:
            request, traceparent = self._outbox.pop(request_id)
            # Its caller may be cancelled, and not have noticed yet.
            if not self._waiting.waits(request_id):
                continue
            parts += frames.request_entry(request_id, request, traceparent)
            size += len(request)
            if size >= BATCH_BYTES:
                break
        return parts


def _result_of(entry: ResponseFrames.Frame) -> bytes | Failure:
    if entry.HasField("response"):
        return entry.response
    try:
        return failure_of_status(status_pb2.Status.FromString(entry.error))
    except DecodeError:
        return UNREADABLE
