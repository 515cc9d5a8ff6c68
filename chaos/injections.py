"""Injects faults into a stage, and ends them."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import RedisError

from chaos import valkey
from chaos.program import ProgramError
from chaos.stage import Stage

WITHIN_LEEWAY_SECONDS = 20.0
"""An offset within the leeway for tokens' times, which is 30 s."""

BEYOND_LEEWAY_SECONDS = 1_800.0

IN_FLIGHT_SECONDS = 0.04
"""Delay to and from the store, so that calls are in flight."""

LAG_SECONDS = 1.0
"""How long a primary runs without its replica before it is killed."""

SAMPLE_SECONDS = 5.0

STORE_KEY = "authsvc:{0}"
"""A key whose slot the store uses in a cluster."""


async def none(stage: Stage) -> None:
    """No fault, for comparison."""
    await stage.hold()
    await stage.hold()


async def replica_killed(stage: Stage) -> None:
    """A replica is killed, and later restarted."""
    victim = stage.replicas[0]
    victim.kill()
    stage.fault_ended("kill -9 of a replica")
    await victim.ended()
    await stage.hold()
    await victim.start()
    stage.report("it is available again")


async def replica_paused(stage: Stage) -> None:
    """A replica is suspended with its connections and its memory, and then resumed."""
    victim = stage.replicas[0]
    victim.pause()
    stage.report("SIGSTOP of a replica")
    await stage.hold()
    victim.resume()
    stage.fault_ended("SIGCONT")


async def rolling_restart(stage: Stage) -> None:
    """Each replica in turn is drained and replaced.

    The store is slow meanwhile, so that each has calls in flight at its SIGTERM.
    """
    stage.proxy.delay_seconds = IN_FLIGHT_SECONDS
    for replica in stage.replicas:
        stage.report(f"SIGTERM to {replica.name}")
        replica.drain()
        await replica.ended()
        await replica.start()
        # As in a deployment: the next one is replaced once this one is ready.
        await asyncio.sleep(1.0)
    stage.proxy.mend()
    stage.fault_ended("all are replaced")


async def store_paused(stage: Stage) -> None:
    """The store is suspended: connections stay open, and nothing answers."""
    stage.server.pause()
    stage.report("SIGSTOP of Valkey")
    await stage.hold()
    stage.server.resume()
    stage.fault_ended("SIGCONT")


async def store_killed(stage: Stage) -> None:
    """The store is killed, and restarted with its data on disk."""
    stage.server.kill()
    stage.report("kill -9 of Valkey")
    await stage.hold()
    await asyncio.to_thread(stage.server.restart)
    stage.fault_ended("it is available again")


async def store_unreachable(stage: Stage) -> None:
    """Packets to the store are dropped, and connections stay open."""
    stage.proxy.freeze()
    stage.report("packets to Valkey are dropped")
    await stage.hold()
    stage.proxy.mend()
    stage.fault_ended("packets are forwarded again")


async def store_slow(stage: Stage) -> None:
    """Each request to the store takes 0.1 s more."""
    stage.proxy.delay_seconds = 0.05
    stage.report("50 ms each way to Valkey")
    await stage.hold()
    stage.proxy.mend()
    stage.fault_ended("no delay")


async def feed_cut(stage: Stage) -> None:
    """Only the replicas' feeds fail: their connections are cut, then frozen."""
    stage.proxy.cut(feed_only=True)
    stage.report("the feed is cut")
    await stage.hold()
    stage.proxy.mend()
    stage.report("it is available again")
    await asyncio.sleep(1.0)
    stage.proxy.freeze(feed_only=True)
    stage.report("the feed is frozen")
    await stage.hold()
    stage.proxy.mend()
    stage.fault_ended("it is available again")


async def store_full(stage: Stage) -> None:
    """The store's memory is full: it answers reads and rejects writes."""
    await asyncio.to_thread(_fill, stage.server)
    stage.report("Valkey's memory is full")
    await stage.hold()
    await asyncio.to_thread(_configure, stage.server, "maxmemory", 0)
    stage.fault_ended("its memory is free again")


async def store_evicts(stage: Stage) -> None:
    """The store may evict keys: a replica that starts then has to refuse."""
    victim = stage.replicas[0]
    stage.report("maxmemory-policy allkeys-lru")
    await asyncio.to_thread(_configure, stage.server, "maxmemory-policy", "allkeys-lru")
    victim.drain()
    await victim.ended()
    try:
        await victim.start()
    except ProgramError as error:
        stage.report("a replica refuses to start")
        if "noeviction" not in str(error):
            stage.broken.append("its error does not name noeviction")
    else:
        stage.broken.append("a replica has started with a store that evicts keys")
    await asyncio.to_thread(_configure, stage.server, "maxmemory-policy", "noeviction")
    await victim.end()
    await victim.start()
    stage.fault_ended("noeviction: it starts")


async def soak(stage: Stage, minutes: float) -> None:
    """No fault for some minutes; memory is sampled."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < 60 * minutes:
        for replica in stage.replicas:
            stage.memory.setdefault(replica.name, []).append((passed, replica.resident_kb()))
        total = sum(samples[-1][1] for samples in stage.memory.values())
        stage.report(f"{passed / 60:.1f} min, {total / 1024:.0f} MB")
        await asyncio.sleep(SAMPLE_SECONDS)


async def clock_stepped(stage: Stage) -> None:
    """One replica's clock is ahead, then behind, within the leeway for tokens."""
    await _step_clock(stage, WITHIN_LEEWAY_SECONDS)


async def clock_wrong(stage: Stage) -> None:
    """One replica's clock is ahead, then behind, by half an hour: it may reject valid tokens, and
    accepts no invalid ones."""
    await _step_clock(stage, BEYOND_LEEWAY_SECONDS)


async def primary_failed(stage: Stage) -> None:
    """A primary is killed; its replica takes over; it restarts as a replica of that one."""
    cluster = stage.cluster
    old = await asyncio.to_thread(cluster.primary_of, STORE_KEY)
    new = await asyncio.to_thread(cluster.replica_of, old)
    await _lose(old, new)
    stage.report("kill -9 of a primary whose replica lags")

    def promoted() -> bool:
        return cluster.primary_of(STORE_KEY) is new

    await asyncio.to_thread(valkey.eventually, promoted, "a failover")
    stage.report("its replica has taken over")
    await stage.hold()
    await asyncio.to_thread(old.start)
    # From now on a replica can confirm writes again.
    await asyncio.to_thread(valkey.wait_in_sync, old, new)
    stage.fault_ended("the old primary is a replica in sync")


async def primary_failed_over(stage: Stage) -> None:
    """A primary is killed; sentinels promote its replica; it restarts as that one's replica.

    The harness does the last step: sentinels would do it only after ten seconds.
    """
    old, new = stage.sentinels.primary, stage.sentinels.replica
    await _lose(old, new)
    stage.report("kill -9 of a primary whose replica lags")
    await asyncio.to_thread(valkey.eventually, lambda: valkey.is_primary(new), "a failover")
    stage.report("its replica has taken over")
    await stage.hold()
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(valkey.follow, old, new)
    stage.fault_ended("the old primary is a replica in sync")


async def _lose(primary: valkey.Valkey, replica: valkey.Valkey) -> None:
    """Kill a primary whose last writes have not reached its replica."""
    replica.pause()
    # Otherwise the replica would still read what its socket has buffered.
    await asyncio.to_thread(valkey.hang_up_on_replicas, primary)
    await asyncio.sleep(LAG_SECONDS)
    primary.kill()
    replica.resume()


async def _step_clock(stage: Stage, seconds: float) -> None:
    victim = stage.replicas[0]
    for offset in (seconds, -seconds):
        victim.step_clock(offset)
        stage.report(f"a clock is off by {offset:+g} s")
        await stage.hold()
    victim.step_clock(0)
    stage.fault_ended("the clock is right again")


def _fill(server: valkey.Valkey) -> None:
    with server.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + (1 << 20))
        # Large values, then small ones, until not even a small one fits.
        for size in (1 << 16, 1 << 10, 1 << 6):
            try:
                for number in range(1 << 20):
                    client.set(f"filler:{size}:{number}", "x" * size)
            except RedisError:
                continue


def _configure(server: valkey.Valkey, name: str, value: str | int) -> None:
    with server.client() as client:
        client.config_set(name, value)
