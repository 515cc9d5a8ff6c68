"""Silent connections do not stop the console."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.support.console import Office

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 60.0


async def test_it_serves_beside_300_silent_connections(office: Office) -> None:
    parts = urlsplit(office.url)
    with ExitStack() as stack:
        for _ in range(300):
            silent = stack.enter_context(socket.socket())
            silent.setblocking(False)
            async with asyncio.timeout(BOUND_SECONDS):
                address = (parts.hostname, parts.port)
                await asyncio.get_running_loop().sock_connect(silent, address)
        async with office.visitor() as visitor:
            assert (await visitor.get("/sign-in")).status_code == 200
