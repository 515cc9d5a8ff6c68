"""The least of HTTP/2: what gRPC's own servers say to it."""

from __future__ import annotations

import asyncio
import select
import time
from pathlib import Path

import pytest

from authsvc.server.running import running
from bench import echo
from bench.calls import UnaryCalls
from bench.http2 import Connection, Event
from bench.processes import echo_server
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import settings_for
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

SECONDS = TIMEOUT_SECONDS
REQUEST_BYTES, RESPONSE_BYTES = 1_000, 70


def exchange(connection: Connection, ends: int) -> list[Event]:
    """What the server says until so many streams have ended."""
    events: list[Event] = []
    deadline = time.monotonic() + SECONDS
    while sum(event.message is None for event in events) < ends:
        assert time.monotonic() < deadline
        connection.flush()
        writing = [connection.socket] if connection.wants_to_write else []
        select.select([connection.socket], writing, [], 1.0)
        events += connection.receive()
    return events


@pytest.mark.parametrize("calls", [1, 50])
async def test_calls_are_answered_each_on_its_stream(calls: int) -> None:
    async with echo_server(
        echo.Model.AIO, request_bytes=REQUEST_BYTES, response_bytes=RESPONSE_BYTES
    ) as server:
        connection = Connection(server.address, echo.UNARY)
        streams = [connection.open() for _ in range(calls)]
        for stream in streams:
            connection.send(stream, bytes(REQUEST_BYTES), end=True)
        events = exchange(connection, calls)
        connection.close()
    answers = {event.stream: event.message for event in events if event.message is not None}
    assert answers == dict.fromkeys(streams, bytes(RESPONSE_BYTES))
    assert all(event.ok for event in events)


async def test_more_than_the_windows_allow_waits_for_its_turn() -> None:
    requests = 400  # 400 KB in one message; windows begin at 64 KB, frames end at 16 KB
    async with echo_server(
        echo.Model.AIO, request_bytes=REQUEST_BYTES, response_bytes=RESPONSE_BYTES
    ) as server:
        connection = Connection(server.address, echo.UNARY)
        connection.send(connection.open(), bytes(REQUEST_BYTES * requests), end=True)
        message, end = exchange(connection, 1)
        connection.close()
    assert message.message == bytes(RESPONSE_BYTES * requests)
    assert end.ok


async def test_an_error_is_told_from_an_answer() -> None:
    async with echo_server(
        echo.Model.AIO, request_bytes=REQUEST_BYTES, response_bytes=RESPONSE_BYTES
    ) as server:
        connection = Connection(server.address, "/bench.Echo/Unknown")
        connection.send(connection.open(), bytes(REQUEST_BYTES), end=True)
        (end,) = exchange(connection, 1)
        connection.close()
    assert end.message is None
    assert not end.ok


async def test_no_more_calls_are_open_than_the_server_allows(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    limits = {"max_concurrent_streams_per_connection": 2}
    settings = settings_for(tmp_path, idp, limits=limits)
    async with asyncio.timeout(SECONDS), running(settings) as address:
        calls = UnaryCalls(address)
        for number in range(10):
            calls.ask(number, b"")
        assert not calls.connection.may_open
        answered: list[int] = []
        readable, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(calls.connection.socket, readable.set)
        while len(answered) < 10:
            calls.flush()
            await readable.wait()
            readable.clear()
            answered += [number for number, _ in calls.answers()]
            assert calls.connection.open_streams <= 2
        loop.remove_reader(calls.connection.socket)
        calls.connection.close()
    assert sorted(answered) == list(range(10))
