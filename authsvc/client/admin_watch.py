"""``WatchSessions`` from the client's side: one watch over a stream after another."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

from grpc import aio

from authsvc.client.admin_channels import AdminChannel
from authsvc.client.calls import Calls, Method
from authsvc.client.failures import (
    CLOSED,
    TIMED_OUT,
    AttemptError,
    answered,
    failure_of,
    is_caller_cancelled,
)
from authsvc.client.retries import WATCH_BACKOFF_SECONDS, RetryPolicy
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import SessionEvent
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import admin as admin_wire

RESUMPTION = RetryPolicy(0.5, max_backoff_seconds=WATCH_BACKOFF_SECONDS)
"""Streams that end without an event are resumed ever more slowly: a server without its store opens
each stream, and ends it at once."""

_Stream = aio.UnaryStreamCall[pb.WatchSessionsRequest, pb.WatchSessionsResponse]


@dataclass(frozen=True, slots=True)
class Watched:
    """An event that was watched.

    Attributes:
        resume_token: resumes the watch after this event.
        event: what happened. Its records are as in ``AdminClient.get``.
    """

    resume_token: str
    event: SessionEvent


class Watch:
    """A watch that outlives its streams.

    Args:
        calls: opens each stream, at one replica after another.
        request: what to watch; its resume token follows the events.
    """

    def __init__(self, calls: Calls[AdminChannel], request: pb.WatchSessionsRequest) -> None:
        self._calls = calls
        self._request = request
        self._stream: _Stream | None = None

    async def begin(
        self, total_seconds: float | None = None, policy: RetryPolicy | None = None
    ) -> None:
        """Open a stream; once it is open, no event is missed.

        Args:
            total_seconds: see ``Calls.make``.
            policy: likewise.

        Raises:
            AuthError: it cannot be opened.
        """
        self._stream = await self._calls.make(
            _OPEN, self._request, total_seconds=total_seconds, policy=policy
        )

    async def events(self) -> AsyncIterator[Watched]:
        """The events of one stream after another.

        Raises:
            AuthError: authsvc no longer allows the watch, or the client was closed.
        """
        loop, failed = asyncio.get_running_loop(), 0
        while self._stream is not None:
            began = loop.time()
            try:
                async for message in self._stream:
                    failed = 0
                    self._request.resume_token = message.resume_token
                    event = admin_wire.event_of(message)
                    if event is not None:
                        yield Watched(message.resume_token, event)
            except aio.AioRpcError as error:
                failure = failure_of(error)
                # The service token may have been replaced; one that was withdrawn opens no stream.
                is_replaced = failure.error.reason is Reason.CALLER_NOT_ALLOWED
                if not failure.may_repeat and not is_replaced:
                    raise failure.error from None
            except asyncio.CancelledError:
                if is_caller_cancelled():
                    raise
                raise AuthError(CLOSED.error.reason, CLOSED.error.detail) from None
            # One that has lasted was served, though nothing happened.
            has_lasted = loop.time() - began >= WATCH_BACKOFF_SECONDS
            failed = 1 if has_lasted else failed + 1
            await asyncio.sleep(RESUMPTION.backoff_seconds(failed))
            await self.begin(math.inf, RESUMPTION)

    def end(self) -> None:
        """Close the stream."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


async def _open(
    channel: AdminChannel, request: pb.WatchSessionsRequest, timeout_seconds: float
) -> _Stream:
    """One attempt to open a stream. Sets the request's resume token to where the stream begins.

    Raises:
        AttemptError: why it failed.
    """
    stream = channel.stub.WatchSessions(request, metadata=channel.metadata())
    try:
        async with asyncio.timeout(timeout_seconds):
            begun = await answered(_begun(stream))
    except TimeoutError:
        stream.cancel()
        raise AttemptError(TIMED_OUT) from None
    except BaseException:
        stream.cancel()
        raise
    position = begun.get(admin_wire.RESUME_TOKEN_KEY)
    if position is not None:
        request.resume_token = str(position)
    return stream


async def _begun(stream: _Stream) -> aio.Metadata:
    """The metadata that the server begins the stream with.

    Raises:
        AioRpcError: the server ended it at once.
    """
    begun = await stream.initial_metadata()
    if stream.done():
        await stream.read()
    return begun


_OPEN: Method[AdminChannel, pb.WatchSessionsRequest, _Stream] = Method(_open, idempotent=True)
