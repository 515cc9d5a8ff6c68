"""Waiting for one's turn, for as long as the client stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from authsvc.http_auth.throttling import Pace


async def wait_while_connected(pace: Pace, receive: Receive) -> None:
    """Wait until the next may pass, while the client is connected.

    Args:
        pace: says how long.
        receive: of a request whose body has been read: nothing but a disconnect is to come.

    Raises:
        ClientDisconnect: the client left.
    """
    delay_seconds = pace.delay_seconds(asyncio.get_running_loop().time())
    has_left = False
    with suppress(TimeoutError):
        async with asyncio.timeout(delay_seconds):
            has_left = (await receive())["type"] == "http.disconnect"
            if not has_left:  # any other message is ignored
                await asyncio.sleep(delay_seconds)
    if has_left:
        raise ClientDisconnect
