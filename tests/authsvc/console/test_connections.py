"""Connections that say nothing do not stop the console."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.support.console import Office

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 60.0


async def test_it_is_there_beside_300_silent_connections(office: Office) -> None:
    parts = urlsplit(office.url)
    with ExitStack() as stack:
        for _ in range(300):
            silent = socket.create_connection((parts.hostname, parts.port), timeout=BOUND_SECONDS)
            stack.enter_context(silent)
        async with office.visitor() as visitor:
            assert (await visitor.get("/sign-in")).status_code == 200
