"""The load and what it is measured by, on real echo servers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from grpc import aio

from bench import closed, echo
from bench.processes import ServerProcess, echo_server

pytestmark = pytest.mark.anyio

IN_FLIGHT = 4


def counted(count: int, answers: list[bytes], most: list[int]) -> Iterator[bytes]:
    """Requests of 10 bytes, noting how many of them are unanswered as each is taken."""
    for taken in range(1, count + 1):
        most[0] = max(most[0], taken - len(answers))
        yield bytes(10)


@pytest.mark.parametrize("model", echo.Model)
@pytest.mark.parametrize("drive", [closed.unary_calls, closed.stream_messages])
async def test_every_request_is_answered_within_the_window(
    model: echo.Model, drive: closed.Drive
) -> None:
    answers: list[bytes] = []
    most = [0]
    method = echo.UNARY if drive is closed.unary_calls else echo.STREAM
    async with (
        echo_server(model, request_bytes=10, response_bytes=3) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        requests = counted(50, answers, most)
        calls = drive(channel, method, requests, in_flight=IN_FLIGHT, received=answers.append)
        sample = await closed.measured(server, calls, lambda: len(answers))
    assert answers == [bytes(3)] * 50
    assert sample.calls == 50
    assert sample.server_cpu_seconds > 0
    # A stream takes the next request before it waits for its turn.
    assert 1 < most[0] <= IN_FLIGHT + 1


async def test_a_batch_is_answered_as_many_calls() -> None:
    answers: list[bytes] = []
    async with (
        echo_server(echo.Model.AIO_UVLOOP, request_bytes=10, response_bytes=3) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        await closed.stream_messages(
            channel, echo.STREAM, [bytes(80)], in_flight=1, received=answers.append
        )
    assert answers == [bytes(24)]


def test_the_cpu_clock_is_that_of_the_process() -> None:
    process = ServerProcess(os.getpid(), "")
    before, spent = process.cpu_seconds(), time.process_time()
    while time.process_time() < spent + 0.2:
        pass
    spent = time.process_time() - spent
    # Other threads of this process go on between the two clocks.
    assert process.cpu_seconds() - before == pytest.approx(spent, rel=0.25)
