"""The faults, and what is promised while each lasts and after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from redis.exceptions import RedisError

from chaos import valkey
from chaos.stage import Setup, Stage

WITHIN_LEEWAY_SECONDS = 20.0
"""A clock that is off by less than the leeway for tokens' times, which is 30 s."""

BEYOND_LEEWAY_SECONDS = 1_800.0

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
        clocks_agree: whether every refusal has to have a cause that the clients know of.
    """

    failures: Failures = Failures.NONE
    obeyed_p99_seconds: float | None = None
    recovery_seconds: float | None = None
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
    stage.begins("SIGSTOP of a replica")
    await stage.lasts()
    victim.resume()
    stage.is_over("SIGCONT")


async def rolling_restart(stage: Stage) -> None:
    """Each replica in turn is drained and replaced."""
    for replica in stage.replicas:
        stage.begins(f"SIGTERM to {replica.name}")
        replica.drain()
        await replica.ended()
        await replica.start()
        # As a deployment does: the next goes once this one is known to be ready.
        await asyncio.sleep(1.0)
    stage.is_over("all are replaced")


async def store_paused(stage: Stage) -> None:
    """The store stands still: connections stay, and nobody answers."""
    stage.server.pause()
    stage.begins("SIGSTOP of Valkey")
    await stage.lasts()
    stage.server.resume()
    stage.is_over("SIGCONT")


async def store_killed(stage: Stage) -> None:
    """The store dies, and comes back with what it has on disk."""
    stage.server.kill()
    stage.begins("kill -9 of Valkey")
    await stage.lasts()
    await asyncio.to_thread(stage.server.restart)
    stage.is_over("it is back")


async def store_unreachable(stage: Stage) -> None:
    """The network to the store swallows everything, and nobody is told."""
    stage.proxy.freeze()
    stage.begins("nothing passes to Valkey")
    await stage.lasts()
    stage.proxy.mend()
    stage.is_over("it passes again")


async def store_slow(stage: Stage) -> None:
    """Each exchange with the store takes a tenth of a second more."""
    stage.proxy.delay_seconds = 0.05
    stage.begins("50 ms each way to Valkey")
    await stage.lasts()
    stage.proxy.mend()
    stage.is_over("no more")


async def feed_cut(stage: Stage) -> None:
    """Replicas cannot follow the store's log, and everything else passes: cut, then swallowed."""
    stage.proxy.cut(feed_only=True)
    stage.begins("the feed is cut")
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
    stage.begins("Valkey's memory is full")
    await stage.lasts()
    await asyncio.to_thread(_make_room, stage.server)
    stage.is_over("there is room again")


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
    old.kill()
    stage.begins("kill -9 of a primary")

    def promoted() -> bool:
        return cluster.primary_of(STORE_KEY) is new

    await asyncio.to_thread(valkey.eventually, promoted, "a failover")
    stage.tell("its replica has taken over")
    await stage.lasts()
    await asyncio.to_thread(old.start)
    # Only now can a write be confirmed by a replica again.
    await asyncio.to_thread(cluster.wait_in_sync, old, new)
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
        Bounds(Failures.NONE, obeyed_p99_seconds=P99, recovery_seconds=0.0),
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
)
"""In the order in which they are run."""


async def _step_clock(stage: Stage, seconds: float) -> None:
    victim = stage.replicas[0]
    for offset in (seconds, -seconds):
        victim.step_clock(offset)
        stage.begins(f"a clock is off by {offset:+g} s")
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


def _make_room(server: valkey.Valkey) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 0)
