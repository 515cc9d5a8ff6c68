"""How each fault is injected into a stage, and undone."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import RedisError

from chaos import valkey
from chaos.replicas import ReplicaError
from chaos.stage import Stage

WITHIN_LEEWAY_SECONDS = 20.0
"""A clock that is off by less than the leeway for tokens' times, which is 30 s."""

BEYOND_LEEWAY_SECONDS = 1_800.0

IN_FLIGHT_SECONDS = 0.04
"""How long the store takes each way, for calls that last."""

LAG_SECONDS = 1.0
"""How long a primary goes on without its replica, before it dies."""

SAMPLE_SECONDS = 5.0

STORE_KEY = "authsvc:{0}"
"""Names a slot that the store uses in a cluster."""


async def none(stage: Stage) -> None:
    """Nothing at all, for comparison."""
    await stage.lasts()
    await stage.lasts()


async def replica_killed(stage: Stage) -> None:
    """A replica is there no more, and comes back after a while."""
    victim = stage.replicas[0]
    victim.kill()
    stage.is_over("kill -9 of a replica")
    await victim.ended()
    await stage.lasts()
    await victim.start()
    stage.tell("it is back")


async def replica_paused(stage: Stage) -> None:
    """A replica stands still, with its connections and its memory, and then goes on."""
    victim = stage.replicas[0]
    victim.pause()
    stage.tell("SIGSTOP of a replica")
    await stage.lasts()
    victim.resume()
    stage.is_over("SIGCONT")


async def rolling_restart(stage: Stage) -> None:
    """Each replica in turn is drained and replaced.

    The store is slow meanwhile, so that each has calls in flight when it is told to stop.
    """
    stage.proxy.delay_seconds = IN_FLIGHT_SECONDS
    for replica in stage.replicas:
        stage.tell(f"SIGTERM to {replica.name}")
        replica.drain()
        await replica.ended()
        await replica.start()
        # As a deployment does: the next goes once this one is known to be ready.
        await asyncio.sleep(1.0)
    stage.proxy.mend()
    stage.is_over("all are replaced")


async def store_paused(stage: Stage) -> None:
    """The store stands still: connections stay, and nobody answers."""
    stage.server.pause()
    stage.tell("SIGSTOP of Valkey")
    await stage.lasts()
    stage.server.resume()
    stage.is_over("SIGCONT")


async def store_killed(stage: Stage) -> None:
    """The store dies, and comes back with what it has on disk."""
    stage.server.kill()
    stage.tell("kill -9 of Valkey")
    await stage.lasts()
    await asyncio.to_thread(stage.server.restart)
    stage.is_over("it is back")


async def store_unreachable(stage: Stage) -> None:
    """The network to the store swallows everything, and nobody is told."""
    stage.proxy.freeze()
    stage.tell("nothing passes to Valkey")
    await stage.lasts()
    stage.proxy.mend()
    stage.is_over("it passes again")


async def store_slow(stage: Stage) -> None:
    """Each exchange with the store takes a tenth of a second more."""
    stage.proxy.delay_seconds = 0.05
    stage.tell("50 ms each way to Valkey")
    await stage.lasts()
    stage.proxy.mend()
    stage.is_over("no more")


async def feed_cut(stage: Stage) -> None:
    """Replicas cannot follow the store's log, and everything else passes: cut, then swallowed."""
    stage.proxy.cut(feed_only=True)
    stage.tell("the feed is cut")
    await stage.lasts()
    stage.proxy.mend()
    stage.tell("it is back")
    await asyncio.sleep(1.0)
    stage.proxy.freeze(feed_only=True)
    stage.tell("the feed is swallowed")
    await stage.lasts()
    stage.proxy.mend()
    stage.is_over("it is back")


async def store_full(stage: Stage) -> None:
    """The store's memory is used up: it answers what it has, and takes no writes."""
    await asyncio.to_thread(_fill, stage.server)
    stage.tell("Valkey's memory is full")
    await stage.lasts()
    await asyncio.to_thread(_configure, stage.server, "maxmemory", 0)
    stage.is_over("there is room again")


async def store_evicts(stage: Stage) -> None:
    """The store may drop what it likes: a replica that is started then has to refuse."""
    victim = stage.replicas[0]
    stage.tell("maxmemory-policy allkeys-lru")
    await asyncio.to_thread(_configure, stage.server, "maxmemory-policy", "allkeys-lru")
    victim.drain()
    await victim.ended()
    try:
        await victim.start()
    except ReplicaError as error:
        stage.tell("a replica refuses to start")
        if "noeviction" not in str(error):
            stage.broken.append("it does not say why it refuses a store that evicts")
    else:
        stage.broken.append("a replica has started over a store that evicts")
    await asyncio.to_thread(_configure, stage.server, "maxmemory-policy", "noeviction")
    await victim.end()
    await victim.start()
    stage.is_over("noeviction: it starts")


async def soak(stage: Stage, minutes: float) -> None:
    """Nothing, for long; memory is sampled."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < 60 * minutes:
        for replica in stage.replicas:
            stage.memory.setdefault(replica.name, []).append((passed, replica.resident_kb()))
        total = sum(samples[-1][1] for samples in stage.memory.values())
        stage.tell(f"{passed / 60:.1f} min, {total / 1024:.0f} MB")
        await asyncio.sleep(SAMPLE_SECONDS)


async def clock_stepped(stage: Stage) -> None:
    """One replica's clock jumps ahead, then back, by less than tokens' leeway."""
    await _step_clock(stage, WITHIN_LEEWAY_SECONDS)


async def clock_wrong(stage: Stage) -> None:
    """One replica's clock jumps by half an hour, each way: it may refuse, and is never wrong."""
    await _step_clock(stage, BEYOND_LEEWAY_SECONDS)


async def primary_failed(stage: Stage) -> None:
    """A primary of the cluster dies; its replica takes over; it comes back as a replica of that."""
    cluster = stage.cluster
    old = await asyncio.to_thread(cluster.primary_of, STORE_KEY)
    new = await asyncio.to_thread(cluster.replica_of, old)
    await _lose(old, new)
    stage.tell("kill -9 of a primary whose replica lags")

    def promoted() -> bool:
        return cluster.primary_of(STORE_KEY) is new

    await asyncio.to_thread(valkey.eventually, promoted, "a failover")
    stage.tell("its replica has taken over")
    await stage.lasts()
    await asyncio.to_thread(old.start)
    # Only now can a write be confirmed by a replica again.
    await asyncio.to_thread(valkey.wait_in_sync, old, new)
    stage.is_over("the old one is its replica, and in sync")


async def primary_failed_over(stage: Stage) -> None:
    """A primary dies; sentinels put its replica in its place; it comes back as a replica of that.

    The last is the operator's part here: sentinels would do it only after ten seconds.
    """
    old, new = stage.sentinels.primary, stage.sentinels.replica
    await _lose(old, new)
    stage.tell("kill -9 of a primary whose replica lags")
    await asyncio.to_thread(valkey.eventually, lambda: valkey.is_primary(new), "a failover")
    stage.tell("its replica has taken over")
    await stage.lasts()
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(valkey.follow, old, new)
    stage.is_over("the old one is its replica, and in sync")


async def _lose(primary: valkey.Valkey, replica: valkey.Valkey) -> None:
    """Kill a primary after a time in which nothing that it was told has reached its replica."""
    replica.pause()
    # Otherwise the network would keep for the replica what it has not read.
    await asyncio.to_thread(valkey.hang_up_on_replicas, primary)
    await asyncio.sleep(LAG_SECONDS)
    primary.kill()
    replica.resume()


async def _step_clock(stage: Stage, seconds: float) -> None:
    victim = stage.replicas[0]
    for offset in (seconds, -seconds):
        victim.step_clock(offset)
        stage.tell(f"a clock is off by {offset:+g} s")
        await stage.lasts()
    victim.step_clock(0)
    stage.is_over("it is right again")


def _fill(server: valkey.Valkey) -> None:
    with server.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + (1 << 20))
        # Coarse, then fine: until not even a small value finds room.
        for size in (1 << 16, 1 << 10, 1 << 6):
            try:
                for number in range(1 << 20):
                    client.set(f"filler:{size}:{number}", "x" * size)
            except RedisError:
                continue


def _configure(server: valkey.Valkey, name: str, value: str | int) -> None:
    with server.client() as client:
        client.config_set(name, value)
