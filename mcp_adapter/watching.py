"""A response that goes on for as long as its caller may have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHECK_SECONDS = 1.0
"""How long a stream can outlive its caller's token, session or access; a stream costs a resolve
each time."""


async def watched(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    may_go_on: Callable[[], Awaitable[bool]],
) -> None:
    """Serve one request, and end its response once its caller may no longer have it."""
    is_open = False

    async def note(message: Message) -> None:
        nonlocal is_open
        is_open = message["type"] == "http.response.start" or message.get("more_body", False)
        await send(message)

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while True:
                await anyio.sleep(CHECK_SECONDS)
                if not await may_go_on():
                    tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await app(scope, receive, note)
        tasks.cancel_scope.cancel()
    if is_open:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
