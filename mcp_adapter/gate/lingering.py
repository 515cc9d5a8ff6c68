"""The answer to a request whose body is not read, such that the client gets it.

A client that is still sending when its connection is closed loses the answer, a challenge among
them (RFC 9112 section 9.6). So the answer is sent at once, and the rest of the body is dropped
before the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from authsvc.http_auth.throttling import Pace

LINGER_SECONDS = 2.0
"""How long a client may go on sending after the answer."""

DROP_INTERVAL_SECONDS = 0.005
"""From one piece that is dropped to the next, of all clients of the process. An HTTP server reads
64 KiB ahead, then waits until the piece is taken: this bounds what is read and dropped."""

PACE = Pace(DROP_INTERVAL_SECONDS, LINGER_SECONDS)


async def respond(
    response: Response, scope: Scope, receive: Receive, send: Send, *, max_bytes: int
) -> None:
    """Answer, then drop what is left of the body.

    Args:
        response: the answer; its length is known.
        scope: of the request.
        receive: of the request.
        send: of the request.
        max_bytes: how much is dropped at the most; ``LINGER_SECONDS`` is how long it may take.
    """

    async def send_all_but_the_end(message: Message) -> None:
        is_body = message["type"] == "http.response.body"
        await send({**message, "more_body": True} if is_body else message)

    await response(scope, receive, send_all_but_the_end)
    # One that waits to be asked for its body (RFC 9110 section 10.1.1) is not asked.
    if "expect" not in Headers(scope=scope):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await _drop(receive, max_bytes)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drop(receive: Receive, max_bytes: int) -> None:
    count, more = 0, True
    while more and count <= max_bytes:
        await PACE.wait()
        event = await receive()
        count += len(event.get("body", b""))
        more = event.get("more_body", False)
