"""Echo servers of raw bytes, one for each way to run gRPC in Python: what the transport costs.

``python -m bench.echo MODEL REQUEST_BYTES RESPONSE_BYTES`` prints the address that it listens on
and serves until its standard input closes. A request of n times REQUEST_BYTES is answered with n
times RESPONSE_BYTES, so that one server stands for single calls and for batches.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import uvloop
from grpc import aio

UNARY = "/bench.Echo/Unary"
STREAM = "/bench.Echo/Stream"

THREADS = 8
"""Workers of the thread-pool servers. From 4 to 32 the figures stay within the noise of a run."""

OPTIONS = (("grpc.so_reuseport", 0),)

Handlers = grpc.GenericRpcHandler


class Model(StrEnum):
    """How the server runs."""

    AIO_UVLOOP = "aio-uvloop"
    """grpc.aio on uvloop's event loop."""
    AIO = "aio"
    """grpc.aio on asyncio's own event loop."""
    THREADS = "threads"
    """grpc.server with a thread pool."""
    THREADS_LOOP = "threads-loop"
    """The same, with each answer awaited on an event loop in a thread of its own: what a thread
    pool comes to when the work behind it is asynchronous."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What to answer."""

    request_bytes: int
    response_bytes: int

    def answer(self, request: bytes) -> bytes:
        """One response for each request in the message."""
        return bytes(self.response_bytes * max(1, len(request) // self.request_bytes))

    async def answer_later(self, request: bytes) -> bytes:
        """The same, to be awaited."""
        return self.answer(request)

    async def unary(self, request: bytes, context: object) -> bytes:
        """Unary handler of grpc.aio."""
        return self.answer(request)

    async def stream(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        """Stream handler of grpc.aio."""
        async for request in requests:
            yield self.answer(request)


def handlers(unary: Callable[..., Any], stream: Callable[..., Any]) -> Handlers:
    """The service, over raw bytes."""
    return grpc.method_handlers_generic_handler(
        "bench.Echo",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Stream": grpc.stream_stream_rpc_method_handler(stream),
        },
    )


async def serve_aio(echo: Echo) -> None:
    """Serve with grpc.aio."""
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((handlers(echo.unary, echo.stream),))
    announce(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)


def serve_threads(answer: Callable[[bytes], bytes]) -> None:
    """Serve with a thread pool."""

    def unary(request: bytes, context: object) -> bytes:
        return answer(request)

    def stream(requests: Iterable[bytes], context: object) -> Iterator[bytes]:
        return map(answer, requests)

    server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((handlers(unary, stream),))
    announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    sys.stdin.read()
    server.stop(grace=None).wait()


def awaiting(
    answer: Callable[[bytes], Coroutine[Any, Any, bytes]],
) -> Callable[[bytes], bytes]:
    """``answer``, run on an event loop in another thread and waited for in this one."""
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return lambda request: asyncio.run_coroutine_threadsafe(answer(request), loop).result()


def announce(port: int) -> None:
    """Tell the parent where to call."""
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve."""
    model = Model(sys.argv[1])
    echo = Echo(int(sys.argv[2]), int(sys.argv[3]))
    match model:
        case Model.AIO_UVLOOP:
            uvloop.run(serve_aio(echo))
        case Model.AIO:
            asyncio.run(serve_aio(echo))
        case Model.THREADS:
            serve_threads(echo.answer)
        case Model.THREADS_LOOP:
            serve_threads(awaiting(echo.answer_later))


if __name__ == "__main__":
    main()
