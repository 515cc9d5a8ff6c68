"""Clients without a token whose bodies are all work: as many empty lists as there is room for.

``python -m bench.anonymous_clients ADDRESS PATH CLIENTS BYTES`` prints a line once they are under
way, and goes on until its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import uvloop

CHUNK = 64 * 1024
ANSWER_BYTES = 64 * 1024


def body_of(size: int) -> bytes:
    """A body of that many bytes, or one less."""
    head, tail = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":[', b"[]]}}"
    return head + b"[]," * ((size - len(head) - len(tail)) // 3) + tail


def request_of(path: str, size: int) -> bytes:
    """A whole request."""
    body = body_of(size)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(host: str, port: int, request: bytes) -> None:
    """Send it, and read what is answered; a connection for each, as the server closes it."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for start in range(0, len(request), CHUNK):
            writer.write(request[start : start + CHUNK])
            await writer.drain()
        await reader.read(ANSWER_BYTES)
    finally:
        writer.close()


async def go_on_asking(host: str, port: int, request: bytes) -> None:
    """One client: the next request follows upon the answer."""
    while True:
        with contextlib.suppress(OSError):
            await ask(host, port, request)


async def main(address: str, path: str, clients: str, size: str) -> None:
    """Ask until standard input closes."""
    host, _, port = address.rpartition(":")
    request = request_of(path, int(size))
    tasks = [
        asyncio.create_task(go_on_asking(host, int(port), request)) for _ in range(int(clients))
    ]
    sys.stdout.write("under way\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
