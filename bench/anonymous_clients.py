"""Clients without a token whose bodies are all work.

``python -m bench.anonymous_clients ADDRESS PATH CLIENTS SHAPE BYTES`` prints a line once they are
under way, and goes on until its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import uvloop

CHUNK = 64 * 1024
ANSWER_BYTES = 64 * 1024


MAX_DIGITS = 4300
"""Digits of the longest integer that Python converts."""

MEMBER_BYTES = 70


def body_of(shape: str, size: int) -> bytes:
    """A request for what is open to all, about ``size`` bytes of which are of a shape."""
    if shape == "string":
        content = b'"' + b"a" * size + b'"'
    elif shape == "members":
        names = (b"%0*d" % (MEMBER_BYTES - 5, number) for number in range(size // MEMBER_BYTES))
        content = b"{" + b",".join(b'"%s":1' % name for name in names) + b"}"
    else:
        value = {"lists": b"[]", "integers": b"9" * MAX_DIGITS}[shape]
        content = b"[" + b",".join([value] * (size // (len(value) + 1))) + b"]"
    return b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + content + b"}}"


def request_of(path: str, shape: str, size: int) -> bytes:
    """A whole request, of a revision without sessions: what is parsed is served."""
    body = body_of(shape, size)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
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


async def main(address: str, path: str, clients: str, shape: str, size: str) -> None:
    """Ask until standard input closes."""
    host, _, port = address.rpartition(":")
    request = request_of(path, shape, int(size))
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
