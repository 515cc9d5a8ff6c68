"""Long bodies are parsed in turns, so that they do not hold up the checks of other clients."""

from __future__ import annotations

import asyncio

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.gateways.check_requests import CheckedRequest
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.gateways.route_checks import Call, RouteChecks
from authsvc.gateways.routes import Route
from authsvc.gateways.turns import MAX_WAITING, Turns
from authsvc.http_auth import messages
from authsvc.http_auth.anonymous_bodies import DEFAULT_MAX_BYTES
from tests.mcp_adapter.harness import MemoryResolver
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.checks import MODERN, request, tool_call
from tests.support.clock import START
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio


class Time:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def test_between_two_turns_others_have_as_long() -> None:
    time, done = Time(), list[int]()
    taking = Turns(time.clock, time.sleep)

    async def work(number: int) -> None:
        async with taking.turn():
            time.now += number
            done.append(number)

    await asyncio.gather(*map(work, (1, 2, 3)))
    assert (done, time.slept) == ([1, 2, 3], [1.0, 2.0])
    time.now += 3.0
    await work(4)
    assert time.slept == [1.0, 2.0]


async def test_work_that_fails_or_is_given_up_takes_no_turn_for_ever() -> None:
    time = Time()
    taking = Turns(time.clock, time.sleep)
    with pytest.raises(ValueError, match="work"):
        async with taking.turn():
            raise ValueError("work")
    async with taking.turn():
        waiting = asyncio.create_task(taking.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with taking.turn():
        pass


async def test_a_bounded_number_waits() -> None:
    taking, done = Turns(), list[int]()

    async def work(number: int) -> None:
        async with taking.turn():
            done.append(number)

    async with taking.turn():
        waiting = [asyncio.create_task(work(number)) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(AuthError) as caught:
            await work(-1)
    assert caught.value.reason is Reason.OVERLOADED
    await asyncio.gather(*waiting)
    assert done == [*range(MAX_WAITING)]


@pytest.mark.parametrize(
    "arguments", [{"x": "a" * DEFAULT_MAX_BYTES}, {"x": [1] * 2_000}], ids=["long", "many"]
)
async def test_a_check_does_not_wait_for_all_long_bodies(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object]
) -> None:
    time, parsed, parse, answered = Time(), list[bool](), messages.parse, asyncio.Event()

    def recorded(body: bytes) -> messages.Message:
        parsed.append(len(body) > 1_000)
        time.now += 1.0
        return parse(body)

    async def sleep(seconds: float) -> None:
        await answered.wait()
        await time.sleep(seconds)

    monkeypatch.setattr(messages, "parse", recorded)
    resolver = MemoryResolver({"alice": Principal(ISSUER, "alice", START + 600)})
    checks = RouteChecks(Route(RESOURCE), resolver, Turns(time.clock, sleep))
    long = tool_call()
    long["params"] = {"name": "read", "arguments": arguments}

    async def check(body: object) -> None:
        message = request("POST", body, token="alice", version=MODERN)
        check = EncodedCheck.of(message.SerializeToString())
        await checks.decide(CheckedRequest.of(check), Call())

    async def check_short() -> None:
        await check(tool_call())
        answered.set()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*map(check, [long] * 5), check_short())
    assert parsed == [True, False, True, True, True, True]
