"""One call: its deadline, its attempts, and when it is not retried."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from authsvc.client import AuthClient
from authsvc.client.breaker import FAILURES
from authsvc.client.client import MAX_ATTEMPTS
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import NotOpenError
from tests.authsvc.client.fleet import (
    BOUND_SECONDS,
    RESOURCE,
    client_of,
    connected,
    fleet,
    resolved,
)
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

AWAY = AuthError(Reason.STORE_UNAVAILABLE)


async def reason(client: AuthClient, call: str = "resolve") -> Reason | None:
    """Why a call fails; None when it does not."""
    try:
        match call:
            case "resolve":
                await resolved(client)
            case "create":
                await client.create("", resource=RESOURCE)
            case _:
                await client.revoke("s")
    except AuthError as error:
        return error.reason
    return None


async def test_a_call_sends_the_time_that_it_has() -> None:
    async with (
        fleet(1) as [replica],
        AuthClient(replica.address, deadline_seconds=700, streams=False) as client,
    ):
        await resolved(client)
    assert 700 - TIMEOUT_SECONDS < replica.asked[0].seconds_left <= 700


async def test_a_cancelled_call_is_cancelled_at_the_replica() -> None:
    async with (
        fleet(1) as [replica],
        client_of(replica) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        replica.go_on.clear()
        call = asyncio.create_task(resolved(client))
        await replica.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await replica.gone.wait()


@pytest.mark.parametrize("call", ["resolve", "revoke"])
async def test_an_idempotent_call_is_retried_at_another_replica(call: str) -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        await connected(client, 2)
        replicas[0].error = AWAY
        for _ in range(20):
            assert await reason(client, call) is None
    refused, answered = (len(replica.asked) for replica in replicas)
    assert refused > 0
    assert answered == 20


async def test_creating_is_not_retried_when_it_may_have_had_an_effect() -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        await connected(client, 2)
        for replica in replicas:
            replica.error = AWAY
        assert await reason(client, "create") is Reason.STORE_UNAVAILABLE
        assert sum(len(replica.asked) for replica in replicas) == 1


async def test_creating_is_retried_when_it_had_no_effect() -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        await connected(client, 2)
        replicas[0].error = AuthError(Reason.KEYS_UNAVAILABLE)
        for _ in range(20):
            assert await reason(client, "create") is None
        assert len(replicas[0].asked) > 0
        assert len(replicas[1].asked) == 20


@pytest.mark.parametrize("refusal", [Reason.TOKEN_EXPIRED, Reason.SESSION_REVOKED])
async def test_a_rejection_is_an_answer(refusal: Reason) -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        for replica in replicas:
            replica.error = AuthError(refusal)
        for _ in range(2 * FAILURES):
            assert await reason(client) is refusal
        assert sum(len(replica.asked) for replica in replicas) == 2 * FAILURES


@pytest.mark.parametrize("broken", [AuthError(Reason.OVERLOADED), RuntimeError("a bug")])
async def test_a_call_is_not_retried_at_an_overloaded_or_broken_replica(broken: Exception) -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        replica.error = broken
        assert await reason(client) in {Reason.OVERLOADED, Reason.SERVICE_UNAVAILABLE}
        assert len(replica.asked) == 1


async def test_attempts_end_and_the_error_says_when_to_retry() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        replica.error = AuthError(Reason.STORE_UNAVAILABLE, retry_after_seconds=3)
        with pytest.raises(AuthError) as caught:
            await resolved(client)
    assert caught.value.retry_after_seconds == 3
    assert len(replica.asked) == MAX_ATTEMPTS


async def test_no_attempt_outlives_the_deadline_of_the_call() -> None:
    loop = asyncio.get_running_loop()
    async with (
        fleet(3) as replicas,
        client_of(*replicas, deadline_seconds=4) as client,
    ):
        await connected(client, 3)
        for replica in replicas:
            replica.go_on.clear()
        begun = loop.time()
        assert await reason(client) is Reason.SERVICE_UNAVAILABLE
        took = loop.time() - begun
        asked = sorted(one.seconds_left for replica in replicas for one in replica.asked)
    assert took > 3.9
    # Each got a part of what was left, the last one all of it, and no two the same replica.
    assert [len(replica.asked) for replica in replicas] == [1, 1, 1]
    assert asked[0] < 1
    assert sum(asked) < 4.5


async def test_without_a_connection_a_call_waits_no_longer_than_its_deadline() -> None:
    async with fleet(1) as [replica]:
        address = replica.address
    async with AuthClient(address, deadline_seconds=0.1) as client, asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(AuthError, match="not connected") as caught:
            await resolved(client)
    assert caught.value.reason is Reason.SERVICE_UNAVAILABLE


async def test_an_error_names_the_target_and_the_cause() -> None:
    async with fleet(1) as [replica]:
        address = replica.address
    async with AuthClient(address, deadline_seconds=0.1) as client:
        async with asyncio.timeout(BOUND_SECONDS):
            detail = ""
            while "refused" not in detail:
                with pytest.raises(AuthError) as caught:
                    await resolved(client)
                detail = caught.value.detail
    # The breaker's error repeats it.
    assert f"not connected to {address} (failed to connect to all addresses" in detail


@pytest.mark.parametrize("streams", [True, False])
async def test_an_error_names_the_replica_that_failed(streams: bool) -> None:
    async with fleet(1) as [replica], client_of(replica, streams=streams) as client:
        replica.error = AWAY
        with pytest.raises(AuthError, match=f"authsvc at {replica.address}: STORE_UNAVAILABLE"):
            await resolved(client)


async def test_an_error_names_a_name_that_cannot_be_looked_up() -> None:
    async def look_up(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    async with AuthClient("dns:///localhost:1", deadline_seconds=0.1, look_up=look_up) as client:
        with pytest.raises(AuthError) as caught:
            await resolved(client)
    assert caught.value.detail == (
        "authsvc: not connected to localhost:1 (cannot be looked up: no such host)"
    )


async def test_an_error_names_few_targets() -> None:
    targets = [f"127.0.0.1:{port}" for port in range(1, 6)]
    async with AuthClient(targets, deadline_seconds=0.1) as client:
        with pytest.raises(AuthError, match=r"not connected to .* and 2 more$"):
            await resolved(client)


async def test_a_client_works_again_once_it_is_opened_again() -> None:
    async with fleet(1) as [replica]:
        client = client_of(replica)
        for _ in range(2):
            async with client:
                await resolved(client)
            with pytest.raises(NotOpenError, match="async with"):
                await resolved(client)


async def test_a_name_is_looked_up_again_once_the_client_is_opened_again() -> None:
    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with fleet(1) as [replica]:
        target = f"dns:///localhost:{replica.address.rpartition(':')[2]}"
        client = AuthClient(target, deadline_seconds=TIMEOUT_SECONDS, look_up=look_up)
        for _ in range(2):
            async with client:
                await resolved(client)


async def test_a_client_is_open_until_the_last_that_opened_it_leaves() -> None:
    async with fleet(1) as [replica]:
        client = client_of(replica)
        async with client:
            async with client:
                await resolved(client)
            await resolved(client)
        with pytest.raises(NotOpenError):
            await resolved(client)


async def test_a_client_may_be_opened_again_while_it_closes() -> None:
    looked_up = asyncio.Event()

    async def look_up(host: str, port: int) -> list[str]:
        if looked_up.is_set():
            await asyncio.Event().wait()  # the name server is silent
        looked_up.set()
        return ["127.0.0.1"]

    async with fleet(2) as replicas:
        targets = replicas[0].address, f"dns:///localhost:{replicas[1].address.rpartition(':')[2]}"
        client = AuthClient(targets, deadline_seconds=TIMEOUT_SECONDS, look_up=look_up)
        stack = AsyncExitStack()
        await stack.enter_async_context(client)
        await asyncio.wait_for(looked_up.wait(), BOUND_SECONDS)
        closing = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)  # it waits for the look-ups to end
        async with client:
            await closing
            await resolved(client)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("call", ["resolve", "create", "revoke"])
async def test_a_call_under_way_fails_once_the_client_is_closed(call: str, streams: bool) -> None:
    async with fleet(1) as [replica]:
        client = AuthClient(replica.address, deadline_seconds=TIMEOUT_SECONDS, streams=streams)
        async with client:
            await resolved(client)
            replica.go_on.clear()
            replica.arrived.clear()
            under_way = asyncio.create_task(reason(client, call))
            await asyncio.wait_for(replica.arrived.wait(), BOUND_SECONDS)
        # Its caller did not cancel it.
        assert await asyncio.wait_for(under_way, BOUND_SECONDS) is Reason.SERVICE_UNAVAILABLE


def tasks_of_clients() -> list[asyncio.Task[object]]:
    names = ("Replica", "ResolveStream.", "Streams.")
    return [it for it in asyncio.all_tasks() if it.get_coro().__qualname__.startswith(names)]  # type: ignore[union-attr] # a coroutine each


@pytest.mark.parametrize("named", [False, True])
async def test_a_client_closes_even_if_the_task_that_closes_it_is_cancelled(named: bool) -> None:
    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with fleet(1) as [replica]:
        port = replica.address.rpartition(":")[2]
        target = f"dns:///localhost:{port}" if named else replica.address
        client = AuthClient(target, deadline_seconds=TIMEOUT_SECONDS, look_up=look_up)
        stack = AsyncExitStack()
        await stack.enter_async_context(client)
        await resolved(client)
        closing = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        async with asyncio.timeout(BOUND_SECONDS):
            while left := tasks_of_clients():
                await asyncio.wait(left)


def test_a_client_works_again_in_another_event_loop() -> None:
    async def use(client: AuthClient) -> None:
        async with client:
            with pytest.raises(AuthError, match="not connected to"):
                await resolved(client)

    client = AuthClient("127.0.0.1:1", deadline_seconds=0.1)
    for _ in range(2):
        asyncio.run(use(client))


async def test_a_client_is_open_in_one_event_loop_at_a_time() -> None:
    async def enter(client: AuthClient) -> None:
        async with client:
            pass

    async with AuthClient("127.0.0.1:1") as client:
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, enter(client))


async def test_an_open_breaker_fails_calls_at_once_until_a_probe_succeeds() -> None:
    now = 0.0
    async with (
        fleet(1) as [replica],
        client_of(replica, clock=lambda: now) as client,
    ):
        replica.error = AWAY
        for _ in range(FAILURES):
            assert await reason(client) is Reason.STORE_UNAVAILABLE
        asked = len(replica.asked)
        with pytest.raises(AuthError, match="unavailable; last failure") as caught:
            await resolved(client)
        assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
        assert caught.value.retry_after_seconds == 0.5
        assert len(replica.asked) == asked

        replica.error = None
        now += 0.5
        assert await reason(client) is None
        assert await reason(client) is None


async def test_retries_do_not_multiply_the_load() -> None:
    async with (
        fleet(1) as [replica],
        client_of(replica) as client,
    ):
        replica.error = AuthError(Reason.KEYS_UNAVAILABLE)
        assert client._calls._budget is not None
        client._calls._budget._left = 4.5
        for _ in range(10):
            assert await reason(client) is Reason.KEYS_UNAVAILABLE
        assert len(replica.asked) == 10 + 4


async def test_it_is_used_when_it_is_open() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await resolved(AuthClient("127.0.0.1:1"))
