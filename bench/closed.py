"""The client: a closed loop of raw requests over one connection, with a fixed number in flight.

Nothing is serialised or parsed while the clock runs, so that every side costs the client the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, cast

from grpc import aio

from bench.figures import Sample
from bench.processes import ServerProcess

ROUND_SECONDS = 60.0
"""After so long a round is given up: something hangs."""

CHANNEL_OPTIONS = (("grpc.max_receive_message_length", 16 << 20),)

Received = Callable[[bytes], object]

Drive = Callable[..., Coroutine[Any, Any, None]]
"""``unary_calls`` or ``stream_messages``."""


def for_seconds(request: bytes, seconds: float) -> Iterator[bytes]:
    """The same request again and again, for so long from the first one on."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield request


async def measured(
    server: ServerProcess, load: Awaitable[None], answered: Callable[[], int]
) -> Sample:
    """Put ``load`` on ``server`` and say what it took.

    Args:
        server: the process that serves it.
        load: the calls; see ``unary_calls`` and ``stream_messages``.
        answered: how many calls were answered, asked once the load has ended.

    Raises:
        TimeoutError: it took longer than ``ROUND_SECONDS``.
        grpc.aio.AioRpcError: a call failed, inside an ExceptionGroup.
    """
    start = time.perf_counter()
    client, other = time.process_time(), server.cpu_seconds()
    async with asyncio.timeout(ROUND_SECONDS):
        await load
    return Sample(
        seconds=time.perf_counter() - start,
        server_cpu_seconds=server.cpu_seconds() - other,
        client_cpu_seconds=time.process_time() - client,
        calls=answered(),
    )


async def unary_calls(
    channel: aio.Channel,
    method: str,
    requests: Iterable[bytes],
    *,
    in_flight: int,
    received: Received,
) -> None:
    """One call for each request, ``in_flight`` of them at a time."""
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    shared = iter(requests)

    async def caller() -> None:
        for request in shared:
            received(await call(request))

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())


async def stream_messages(
    channel: aio.Channel,
    method: str,
    requests: Iterable[bytes],
    *,
    in_flight: int,
    received: Received,
) -> None:
    """One stream with a message for each request, ``in_flight`` of them unanswered at a time."""
    method_call: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = method_call()
    window = asyncio.Semaphore(in_flight)

    async def write() -> None:
        for request in requests:
            await window.acquire()
            await call.write(request)
        await call.done_writing()

    async def read() -> None:
        while (answer := await call.read()) is not aio.EOF:
            window.release()
            received(cast("bytes", answer))

    async with asyncio.TaskGroup() as both:
        both.create_task(write())
        both.create_task(read())
