"""The faults, and what is promised while each lasts and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from chaos import injections
from chaos.stage import Setup, Stage

GROWTH_KB_PER_MINUTE = 256.0
"""What counts as flat: a leak of 100 bytes a call would be five times as much."""


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

FAULTS = (
    Fault("none", "nothing, for comparison", injections.none, Bounds(obeyed_p99_seconds=P99)),
    Fault(
        "replica-killed",
        "kill -9 of a replica, back later",
        injections.replica_killed,
        Bounds(Failures.MENDED, obeyed_p99_seconds=P99, recovery_seconds=1.0),
    ),
    Fault(
        "replica-paused",
        "SIGSTOP, SIGCONT of a replica",
        injections.replica_paused,
        Bounds(Failures.MENDED, recovery_seconds=RECOVERY),
    ),
    Fault(
        "rolling-restart",
        "SIGTERM and replacement of each replica",
        injections.rolling_restart,
        Bounds(Failures.NONE, recovery_seconds=0.0),
        Setup("proxied"),
    ),
    Fault(
        "store-paused",
        "SIGSTOP, SIGCONT of Valkey",
        injections.store_paused,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-killed",
        "kill -9 and restart of Valkey",
        injections.store_killed,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-unreachable",
        "packets to Valkey swallowed",
        injections.store_unreachable,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("proxied"),
    ),
    Fault("store-slow", "50 ms each way", injections.store_slow, Bounds(), Setup("proxied")),
    Fault(
        "feed-cut",
        "the feed alone, cut, swallowed",
        injections.feed_cut,
        Bounds(),
        Setup("proxied"),
    ),
    Fault(
        "store-full",
        "maxmemory reached, noeviction",
        injections.store_full,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
    ),
    Fault(
        "store-evicts",
        "an eviction policy that drops keys",
        injections.store_evicts,
        Bounds(Failures.NONE, obeyed_p99_seconds=P99),
    ),
    Fault(
        "clock-stepped",
        "one replica 20 s ahead, then behind",
        injections.clock_stepped,
        Bounds(clocks_agree=False),
        Setup(can_step_clocks=True),
    ),
    Fault(
        "clock-wrong",
        "one replica 30 min ahead, then behind",
        injections.clock_wrong,
        Bounds(clocks_agree=False),
        Setup(can_step_clocks=True),
    ),
    Fault(
        "primary-failed",
        "kill -9 of a cluster's primary",
        injections.primary_failed,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("cluster"),
    ),
    Fault(
        "primary-replaced",
        "kill -9 of a primary that sentinels watch",
        injections.primary_failed_over,
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
        partial(injections.soak, minutes=minutes),
        Bounds(obeyed_p99_seconds=P99, growth_kb_per_minute=GROWTH_KB_PER_MINUTE),
        Setup(remembers_little=True),
    )
