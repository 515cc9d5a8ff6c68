"""The faults, and what is promised while each lasts and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from redis.exceptions import RedisError

from chaos import valkey
from chaos.replicas import ReplicaError
from chaos.stage import Setup, Stage

WITHIN_LEEWAY_SECONDS = 20.0
"""A clock that is off by less than the leeway for tokens' times, which is 30 s."""

BEYOND_LEEWAY_SECONDS = 1_800.0

IN_FLIGHT_SECONDS = 0.04
"""How long the store takes each way, for calls that last."""

LAG_SECONDS = 1.0
"""How long a primary goes on without its replica, before it dies."""

SAMPLE_SECONDS = 5.0

GROWTH_KB_PER_MINUTE = 256.0
"""What counts as flat: a leak of 100 bytes a call would be five times as much."""

STORE_KEY = "authsvc:{0}"
"""Names a slot that the store uses in a cluster."""


class Failures(Enum):
    """Which calls may fail."""

    NONE = "none"
    MENDED = "none that a retry within 1 s did not mend"
    ANY = "any, within the deadline"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is promised besides what always is.

    Attributes:
        failures: which calls may fail.
        obeyed_p99_seconds: by then replicas obey a revocation, 99 times in 100; None where only
            the bound holds that always does.
        recovery_seconds: by then no call fails any more, counted from the end of the fault.
        growth_kb_per_minute: how fast a replica's memory may grow, where it is watched.
        clocks_agree: whether every refusal has to have a cause that the clients know of.
    """

    failures: Failures = Failures.NONE
    obeyed_p99_seconds: float | None = None
    recovery_seconds: float | None = None
    growth_kb_per_minute: float | None = None
    clocks_agree: bool = True


SINGLE = Setup()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: for ``--only``.
        about: what is done.
        inject: does it, and undoes it.
        bounds: what is promised.
        setup: what it is done to.
    """

    name: str
    about: str
    inject: Callable[[Stage], Awaitable[None]]
    bounds: Bounds
    setup: Setup = SINGLE


P99 = 0.050
RECOVERY = 2.0


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


FAULTS = (
    Fault("none", "nothing, for comparison", none, Bounds(obeyed_p99_seconds=P99)),
    Fault(
        "replica-killed",
        "kill -9 of a replica, back later",
        replica_killed,
        Bounds(Failures.MENDED, obeyed_p99_seconds=P99, recovery_seconds=1.0),
    ),
    Fault(
        "replica-paused",
        "SIGSTOP, SIGCONT of a replica",
        replica_paused,
        Bounds(Failures.MENDED, recovery_seconds=RECOVERY),
    ),
    Fault(
        "rolling-restart",
        "SIGTERM and replacement of each replica",
        rolling_restart,
        Bounds(Failures.NONE, recovery_seconds=0.0),
        Setup("proxied"),
    ),
    Fault(
        "store-paused",
        "SIGSTOP, SIGCONT of Valkey",
        store_paused,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-killed",
        "kill -9 and restart of Valkey",
        store_killed,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-unreachable",
        "packets to Valkey swallowed",
        store_unreachable,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("proxied"),
    ),
    Fault("store-slow", "50 ms each way", store_slow, Bounds(), Setup("proxied")),
    Fault("feed-cut", "the feed alone, cut, swallowed", feed_cut, Bounds(), Setup("proxied")),
    Fault(
        "store-full",
        "maxmemory reached, noeviction",
        store_full,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-evicts",
        "an eviction policy that drops keys",
        store_evicts,
        Bounds(Failures.NONE, obeyed_p99_seconds=P99),
    ),
    Fault(
        "clock-stepped",
        "one replica 20 s ahead, then behind",
        clock_stepped,
        Bounds(clocks_agree=False),
        Setup(can_step_clocks=True),
    ),
    Fault(
        "clock-wrong",
        "one replica 30 min ahead, then behind",
        clock_wrong,
        Bounds(clocks_agree=False),
        Setup(can_step_clocks=True),
    ),
    Fault(
        "primary-failed",
        "kill -9 of a cluster's primary",
        primary_failed,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("cluster"),
    ),
    Fault(
        "primary-replaced",
        "kill -9 of a primary that sentinels watch",
        primary_failed_over,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("sentinel"),
    ),
)
"""In the order in which they are run."""


def soaking(minutes: float) -> Fault:
    """A run that is long enough to see whether memory grows."""
    return Fault(
        "soak",
        f"nothing, for {minutes:g} minutes",
        partial(soak, minutes=minutes),
        Bounds(obeyed_p99_seconds=P99, growth_kb_per_minute=GROWTH_KB_PER_MINUTE),
        Setup(remembers_little=True),
    )


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
