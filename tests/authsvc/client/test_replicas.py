"""Several replicas: which is called while they stop, start, freeze and move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import pytest

from authsvc.client import AuthClient, replicas
from authsvc.client import replica as replica_module
from authsvc.client.targets import Endpoint
from authsvc.domain.errors import AuthError
from tests.authsvc.client.fleet import (
    BOUND_SECONDS,
    GRACE_SECONDS,
    RESOURCE,
    FakeReplica,
    addresses,
    client_of,
    connected,
    fleet,
    hasten,
    resolved,
    until,
)
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def load(client: AuthClient, tasks: int = 8) -> AsyncIterator[list[str]]:
    """Calls of every kind without a pause, and a list of what has failed."""
    failures: list[str] = []
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            try:
                await client.resolve("s", "", resource=RESOURCE)
                await client.create("", resource=RESOURCE)
                await client.revoke("s")
            except AuthError as error:
                failures.append(str(error))

    under_way = [asyncio.create_task(call()) for _ in range(tasks)]
    try:
        yield failures
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*under_way), BOUND_SECONDS)


async def more(replica: FakeReplica, count: int = 100) -> None:
    """Until so many more calls have arrived at a replica."""
    target = len(replica.asked) + count
    async with asyncio.timeout(BOUND_SECONDS):
        while len(replica.asked) < target:
            replica.arrived.clear()
            await replica.arrived.wait()


async def test_all_replicas_are_called() -> None:
    async with (
        fleet(3) as replicas,
        AuthClient(",".join(addresses(replicas)), deadline_seconds=TIMEOUT_SECONDS) as client,
    ):
        await connected(client, 3)
        for _ in range(90):
            await resolved(client)
    assert sum(len(replica.asked) for replica in replicas) == 90
    assert min(len(replica.asked) for replica in replicas) > 10


async def test_a_busy_replica_gets_fewer_calls() -> None:
    async with fleet(2) as replicas, client_of(*replicas) as client:
        await connected(client, 2)
        for replica in replicas:
            replica.go_on.clear()
        stuck = asyncio.create_task(client.create("", resource=RESOURCE))
        arrivals = [asyncio.create_task(replica.arrived.wait()) for replica in replicas]
        await asyncio.wait(arrivals, timeout=BOUND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        busy, idle = sorted(replicas, key=lambda replica: not replica.asked)
        idle.go_on.set()
        for _ in range(30):
            await client.create("", resource=RESOURCE)
        busy.go_on.set()
        await asyncio.gather(stuck, *arrivals)
    assert (len(busy.asked), len(idle.asked)) == (1, 30)


async def test_a_rolling_restart_under_load_fails_no_call() -> None:
    async with (
        fleet(3) as replicas,
        client_of(*replicas) as client,
    ):
        await connected(client, 3)
        await until(lambda: all(replica.asked for replica in replicas), client)
        async with load(client) as failures:
            for replica in replicas:
                await more(replica)
                # What is on its way to a server that stops, gRPC ends with CANCELLED, and creating
                # is not repeated: a drain begins by telling.
                await replica.say(serving=False)
                await until(partial(unused, client, replica), client)
                await asyncio.wait_for(replica.stop(GRACE_SECONDS), BOUND_SECONDS)
                await replica.start()
                await more(replica)
        assert failures == []


async def test_a_restart_of_the_only_replica_is_waited_for() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await resolved(client)
        await replica.stop(GRACE_SECONDS)
        call = asyncio.create_task(resolved(client))
        await asyncio.sleep(0)
        await replica.start()
        await asyncio.wait_for(call, BOUND_SECONDS)


async def test_a_drain_does_not_wait_for_health_watches() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        for _ in range(10):
            await resolved(client)
        await asyncio.wait_for(replica.stop(1_000 * TIMEOUT_SECONDS), TIMEOUT_SECONDS)


async def test_a_replica_that_is_killed_takes_no_idempotent_call_with_it() -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        await connected(client, 2)
        replicas[0].go_on.clear()
        calls = [asyncio.create_task(resolved(client)) for _ in range(20)]
        await asyncio.wait_for(replicas[0].arrived.wait(), BOUND_SECONDS)
        await replicas[0].stop()
        await asyncio.wait_for(asyncio.gather(*calls), BOUND_SECONDS)


async def test_a_replica_that_does_not_serve_is_not_called_while_another_does() -> None:
    async with fleet(2) as replicas, client_of(*replicas) as client:
        away, there = replicas
        await until(lambda: bool(away.asked and there.asked), client)
        await away.say(serving=False)
        await until(lambda: not healthy(client, away), client)
        before = len(away.asked)
        for _ in range(50):
            await resolved(client)
        assert len(away.asked) == before
        # One that does not serve is better than none.
        await there.stop()
        await resolved(client)
        assert len(away.asked) == before + 1
        await there.start()
        await away.say(serving=True)
        await until(lambda: healthy(client, away), client)


async def test_a_report_of_not_serving_counts_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("authsvc.client.replica.ASK_AGAIN_SECONDS", 1000.0)
    async with fleet(2) as replicas, client_of(*replicas) as client:
        await connected(client, 2)
        await resolved(client)
        for replica in replicas:
            await replica.say(serving=False)
            await until(partial(unhealthy, client, replica), client)


async def test_a_frozen_replica_costs_a_fraction_of_one_deadline_and_is_avoided(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "authsvc.client")
    # A replica that answers gets a quarter of it, which a busy machine has to keep to.
    async with fleet(2) as replicas, client_of(*replicas, deadline_seconds=20) as client:
        frozen, there = replicas
        await until(lambda: bool(frozen.asked and there.asked), client)
        frozen.freeze()
        await until(lambda: not healthy(client, frozen), client)
        with monkeypatch.context() as patched:
            for endpoint, known in client._replicas._by_endpoint.items():
                if endpoint.address == frozen.address:
                    patched.setattr(known, "resolve", never)
            for _ in range(50):
                await resolved(client)
        frozen.thaw()
        await until(lambda: healthy(client, frozen), client)
    assert logged_by_client(caplog) == [
        f"authsvc at {frozen.address} is unresponsive: other replicas are preferred",
        f"authsvc at {frozen.address} responds again",
    ]


@pytest.mark.parametrize("returns", [True, False])
async def test_a_frozen_replica_is_not_called_while_another_reconnects(
    returns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reconnects each time its server ends the connection for its age."""
    monkeypatch.setattr(replica_module, "RETURN_SECONDS", TIMEOUT_SECONDS if returns else 0.0)
    async with fleet(2) as (frozen, other), client_of(frozen, other) as client:
        await connected(client, 2)
        [first, second] = [
            client._replicas._by_endpoint[Endpoint(one.address)] for one in (frozen, other)
        ]
        frozen.freeze()
        first.mark_unresponsive()
        await other.stop()
        async with asyncio.timeout(BOUND_SECONDS):
            while second.try_connect():  # noqa: ASYNC110 - the replica is in this process
                await asyncio.sleep(0)
        best = client._replicas.best(())
        assert best is (None if returns else first)
        if returns:
            await other.start()
            await resolved(client)
            assert len(other.asked) == 1


async def test_a_slow_replica_is_not_taken_for_a_frozen_one() -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
    ):
        await until(lambda: all(replica.asked for replica in replicas), client)
        for replica in replicas:
            replica.go_on.clear()
        hasten(client, 0.4)
        with pytest.raises(AuthError):
            await resolved(client)
        hasten(client, TIMEOUT_SECONDS)
        for replica in replicas:
            replica.go_on.set()
        await until(lambda: all(healthy(client, replica) for replica in replicas), client)


async def test_a_replica_that_was_closed_has_no_tasks() -> None:
    async with (
        fleet(1) as [frozen],
        client_of(frozen, deadline_seconds=0.2) as client,
    ):
        hasten(client, TIMEOUT_SECONDS)
        await resolved(client)
        hasten(client, 0.2)
        [replica] = client._replicas._by_endpoint.values()
        frozen.freeze()
        call = asyncio.create_task(resolved(client))
        await asyncio.sleep(0)
        client._replicas.renew()
        with pytest.raises(AuthError):
            await call
        assert not replica._tasks
    assert not client._replicas._closing


async def test_a_name_that_cannot_be_looked_up_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("authsvc.client.replicas.LOOK_UP_SECONDS", 0.0)
    causes = iter(["no such name", "no such name", "no such name", "no resolver", "no resolver"])
    asked_enough = asyncio.Event()

    async def look_up(host: str, port: int) -> Sequence[str]:
        if (cause := next(causes, None)) is not None:
            raise OSError(cause)
        asked_enough.set()
        return []

    async with AuthClient("dns:///localhost:1", deadline_seconds=TIMEOUT_SECONDS, look_up=look_up):
        await asyncio.wait_for(asked_enough.wait(), BOUND_SECONDS)
    assert logged_by_client(caplog) == [
        "localhost cannot be looked up: no such name",
        "localhost cannot be looked up: no resolver",
    ]


async def test_the_replicas_of_a_name_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.client.replicas.LOOK_UP_SECONDS", 0.01)
    addresses: list[str] = []
    asked: set[tuple[str, int]] = set()
    in_vain = asyncio.Event()

    async def look_up(host: str, port: int) -> Sequence[str]:
        asked.add((host, port))
        if not addresses and not in_vain.is_set():
            in_vain.set()
            raise OSError("no such name")
        return addresses

    async with fleet(1) as [first]:
        port = int(first.address.rpartition(":")[2])
        second = FakeReplica(address=f"127.0.0.2:{port}")
        await second.start()
        target = f"dns:///localhost:{port}"
        async with AuthClient(target, deadline_seconds=TIMEOUT_SECONDS, look_up=look_up) as client:
            call = asyncio.create_task(resolved(client))
            await asyncio.wait_for(in_vain.wait(), BOUND_SECONDS)
            addresses.append("127.0.0.1")
            await asyncio.wait_for(call, BOUND_SECONDS)
            addresses.append("127.0.0.2")
            await until(lambda: bool(second.asked), client)
            addresses.remove("127.0.0.1")
            await until(lambda: len(client._replicas._by_endpoint) == 1, client)
            before = len(first.asked)
            addresses.clear()
            for _ in range(20):
                await resolved(client)
            assert len(first.asked) == before
        await second.stop()
    assert asked == {("localhost", port)}


def logged_by_client(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what gRPC logs of the calls that the fake replicas no longer have."""
    records = [record for record in caplog.records if record.name.startswith("authsvc.client")]
    return [record.getMessage() for record in records]


async def never(request: object, timeout_seconds: float) -> NoReturn:
    """Replaces an attempt that must not be made."""
    raise AssertionError("asked")


def unhealthy(client: AuthClient, replica: FakeReplica) -> bool:
    """Whether the client avoids a replica."""
    return not healthy(client, replica)


def unused(client: AuthClient, replica: FakeReplica) -> bool:
    """Whether it is also without calls of the client in flight."""
    known = client._replicas._by_endpoint.items()
    busy = [one.in_flight for endpoint, one in known if endpoint.address == replica.address]
    return unhealthy(client, replica) and not any(busy)


def healthy(client: AuthClient, replica: FakeReplica) -> bool:
    """Whether the client takes a replica for healthy."""
    known = client._replicas._by_endpoint.items()
    return all(one.healthy for endpoint, one in known if endpoint.address == replica.address)


async def test_a_client_that_finds_nobody_says_so_once_it_is_open(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "START_SECONDS", 0.3)
    async with AuthClient("127.0.0.1:1") as client:
        starting = client._replicas._starting
        assert starting is not None
        await asyncio.wait_for(starting, BOUND_SECONDS)
    (line,) = logged_by_client(caplog)
    assert "authsvc: not connected to 127.0.0.1:1 (" in line
    assert line.endswith("; calls fail until there is a connection")
    assert "\n" not in line


async def test_a_client_that_finds_one_has_nothing_to_say(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "START_SECONDS", BOUND_SECONDS)
    async with fleet(1) as [replica], client_of(replica) as client:
        await resolved(client)
        starting = client._replicas._starting
        assert starting is not None
        await asyncio.wait_for(starting, BOUND_SECONDS)
    async with AuthClient("127.0.0.1:1"):
        pass  # closed before the time is over
    assert logged_by_client(caplog) == []
