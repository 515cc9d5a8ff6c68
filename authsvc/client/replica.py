"""One replica: a connection that is kept up, and its health."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from authsvc.client import health
from authsvc.client.failures import UNREADABLE, AttemptError, answered
from authsvc.client.streams import Streams
from authsvc.client.targets import Endpoint
from authsvc.client.tls import Metadata
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Resolution
from authsvc.net.channels import LASTING, open_channel
from authsvc.v1 import auth_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

CHECK_SECONDS = 0.5
"""Timeout of a health check, and the longest time between checks of an unresponsive replica."""

CONNECTED_YET_SECONDS = 0.02
"""How often the state of a connection is polled."""

RETURN_SECONDS = 0.1
"""How long a replica whose connection was lost may take to be connected again, as seen by a caller
whose other replicas are unresponsive: it waits so long before it calls one of those."""

ASK_AGAIN_SECONDS = 1.0
"""The longest time until a replica that did not report SERVING is checked again."""

RESOLVE_METHOD = "/authsvc.v1.AuthService/ResolveSession"

_READY = grpc.ChannelConnectivity.READY
_FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE

_OPTIONS = (*LASTING, ("grpc.keepalive_permit_without_calls", 1))


class Replica:
    """A channel to one replica, and a stream for resolves beside it.

    It is connected before it is needed, and again as soon as the connection is lost. ``healthy``
    is what is known besides: that it reports SERVING, and that it responds at all. A replica under
    a debugger, on a stalled disk or behind a cut cable looks connected for long.

    Args:
        endpoint: where it listens.
        credentials: of the channel; None in the clear.
        context: of the stream, of the same certificates.
        metadata: authenticates the caller.
        known: set once authsvc has answered this caller. Only then is its health watched: the watch
            of a caller that is denied would be audited as another denial.
        decode: decodes a ``ResolveSessionResponse``.
        streams: whether resolves share a stream, if the replica has them.
        traceparent: the context of the current trace, as W3C Trace Context spells it; empty
            without one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: grpc.ChannelCredentials | None,
        *,
        context: ssl.SSLContext | None,
        metadata: Callable[[], Metadata],
        known: asyncio.Event,
        decode: Callable[[bytes], Resolution],
        streams: bool = True,
        traceparent: Callable[[], str] = str,
    ) -> None:
        self.in_flight = 0
        self.name = f"{endpoint.host} at {endpoint.address}" if endpoint.host else endpoint.address
        """Its name in logs and errors."""
        self.cause = ""
        """Why there is no connection, as gRPC reports; empty if there is one, or none is known."""
        self._channel = _channel(endpoint, credentials)
        self._stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(self._channel)
        self._metadata = metadata
        self._known = known
        self._decode = decode
        # Requests are encoded once, for the stream as for a call.
        self._resolve: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            RESOLVE_METHOD
        )
        self._serving = True
        self._responsive = True
        self._was_connected = False
        self._lost_at = float("-inf")
        self._traceparent = traceparent
        self._streams: Streams | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._follow_health())
        if streams:
            self._streams = Streams(self.name, endpoint, context, self._until_reachable)
            self._streaming = self._spawn(self._streams.follow())

    def try_connect(self) -> bool:
        """Begin to connect, unless there is a connection; whether there is one."""
        # A connection that the server has ended, for its age perhaps, is made anew at once.
        connected = self._channel.get_state(try_to_connect=True) is _READY
        if self._was_connected and not connected:
            self._lost_at = asyncio.get_running_loop().time()
        self._was_connected = connected
        return connected

    @property
    def returning(self) -> bool:
        """Whether it is healthy, was connected a moment ago and is not now."""
        since = asyncio.get_running_loop().time() - self._lost_at
        return self.healthy and not self._was_connected and since < RETURN_SECONDS

    @property
    def healthy(self) -> bool:
        """Whether it serves and responds, as far as is known; others are asked first if not."""
        return self._serving and self._responsive

    async def ask(
        self,
        method: Callable[
            [pb_grpc.AuthServiceAsyncStub], aio.UnaryUnaryMultiCallable[RequestT, ResponseT]
        ],
        request: RequestT,
        timeout_seconds: float,
    ) -> tuple[ResponseT, aio.Call]:
        """One attempt: the answer, and its RPC.

        Raises:
            AttemptError: why there is no answer.
        """
        return await self._call(method(self._stub), request, timeout_seconds)

    async def resolve(self, request: bytes, timeout_seconds: float) -> Resolution:
        """One attempt to resolve: on the stream, or as a call of its own while there is none.

        Args:
            request: an encoded ``ResolveSessionRequest``.
            timeout_seconds: how long it may take.

        Raises:
            AttemptError: why there is no answer.
        """
        streamed = await self._streamed(request, timeout_seconds)
        try:
            if streamed is not None:
                return self._decode(streamed)
            called, _ = await self._call(self._resolve, request, timeout_seconds)
            return self._decode(called)
        except DecodeError:
            raise AttemptError(UNREADABLE) from None

    def mark_unresponsive(self) -> None:
        """It has not answered in time: prefer others until it answers a health check."""
        if self._responsive:
            log.warning("authsvc at %s is unresponsive: other replicas are preferred", self.name)
            self._responsive = False
            self._spawn(self._await_answer())

    async def close(self, grace_seconds: float | None = None) -> None:
        """Close the connection, once its calls have ended or ``grace_seconds`` have passed."""
        # So that a last call that times out starts no health check.
        self._responsive = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        closing = [self._channel.close(grace_seconds)]
        if self._streams is not None:
            closing.append(self._streams.close(grace_seconds or 0.0))
        await asyncio.gather(*closing)

    async def _streamed(self, request: bytes, timeout_seconds: float) -> bytes | None:
        """The answer on the stream; None where there is none.

        Raises:
            AttemptError: why there is no answer.
        """
        streams = self._streams
        stream = streams.current(self._metadata()) if streams is not None else None
        if stream is None:
            return None
        self.in_flight += 1
        try:
            return await stream.ask(request, timeout_seconds, self._traceparent())
        except AttemptError as error:
            if not error.failure.unimplemented:
                raise
            await self._do_without_streams()
            return None
        finally:
            self.in_flight -= 1

    async def _call(
        self,
        method: aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout_seconds: float,
    ) -> tuple[ResponseT, aio.Call]:
        self.in_flight += 1
        try:
            metadata = self._metadata()
            if traceparent := self._traceparent():
                metadata = (*metadata, ("traceparent", traceparent))
            rpc = method(request, timeout=timeout_seconds, metadata=metadata)
            return await answered(rpc), rpc
        finally:
            self.in_flight -= 1

    async def _do_without_streams(self) -> None:
        """The replica has no such RPC: it is called."""
        streams, self._streams = self._streams, None
        if streams is not None:
            self._streaming.cancel()
            await streams.close(0.0)

    async def _until_reachable(self) -> None:
        while not self.try_connect():  # noqa: ASYNC110 - see _connect
            await asyncio.sleep(CONNECTED_YET_SECONDS)

    async def _follow_health(self) -> None:
        """Keep the connection up, and follow the health that the replica reports."""
        while True:
            await self._connect()
            try:
                self._serving = await health.check(self._channel, CHECK_SECONDS)
                if self._serving:
                    await self._until_known()
                    await self._watch()
            except (aio.AioRpcError, AuthError):
                # No health service, or the connection is lost: its answers will show.
                self._serving = True
            await asyncio.sleep(random.uniform(0.0, ASK_AGAIN_SECONDS))  # noqa: S311 - jitter

    async def _connect(self) -> None:
        # gRPC can notify of state changes, but a wait for one cannot be cancelled: its callback
        # reaches the event loop later, which may be closed by then.
        loop = asyncio.get_running_loop()
        ask_at = loop.time()
        while not self.try_connect():
            if self._channel.get_state() is _FAILED and loop.time() >= ask_at:
                self.cause = await health.why_unconnected(self._channel, CHECK_SECONDS)
                ask_at = loop.time() + ASK_AGAIN_SECONDS
            await asyncio.sleep(CONNECTED_YET_SECONDS)
        self.cause = ""

    async def _until_known(self) -> None:
        """Wait until authsvc has answered this caller. gRPC closes a connection without calls."""
        while not self._known.is_set():
            await self._connect()
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_SECONDS):
                    await self._known.wait()

    async def _watch(self) -> None:
        async with aclosing(health.watch(self._channel, self._metadata())) as watch:
            async for self._serving in watch:
                if not self._serving:
                    # A server that drains waits for its streams to end.
                    return

    async def _await_answer(self) -> None:
        while not self._responsive:
            await self._connect()
            self._responsive = await health.responds(self._channel, CHECK_SECONDS)
        log.info("authsvc at %s responds again", self.name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _channel(endpoint: Endpoint, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
    # The certificate has to bear the name, not the address that it was resolved to.
    override = (("grpc.ssl_target_name_override", endpoint.host),) if endpoint.host else ()
    return open_channel(endpoint.address, credentials, (*_OPTIONS, *override))
