"""The faults, and the bounds during and after each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from chaos import injections
from chaos.stage import Setup, Stage

GROWTH_KB_PER_MINUTE = 256.0
"""Growth that is no leak: a leak of 100 bytes a call would be five times as much."""


class Failures(Enum):
    """Which calls may fail."""

    NONE = "none"
    MENDED = "only those that a retry within 1 s mends"
    ANY = "any, within the deadline"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one fault, besides the guarantees that always hold.

    Attributes:
        failures: which calls may fail.
        obeyed_p99_seconds: within it replicas obey 99 of 100 revocations; None for the general
            bound only.
        recovery_seconds: from the end of the fault until no call fails any more.
        growth_kb_per_minute: growth of a replica's memory, if it is measured.
        clocks_agree: whether every rejection has to have a cause in the history.
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
        name: its name for ``--only``.
        about: a description.
        inject: injects the fault and ends it.
        bounds: what the run has to keep.
        setup: the stage that it needs.
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
        "signals",
        "nothing; sign-outs that are reported by signals, 30 a second",
        injections.none,
        Bounds(obeyed_p99_seconds=P99),
        Setup(signals_per_second=30.0),
    ),
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
        "packets to Valkey dropped",
        injections.store_unreachable,
        Bounds(Failures.ANY, recovery_seconds=RECOVERY),
        Setup("proxied"),
    ),
    Fault("store-slow", "50 ms each way", injections.store_slow, Bounds(), Setup("proxied")),
    Fault(
        "feed-cut",
        "the feed alone, cut, frozen",
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
"""In the order of the runs."""


def soaking(minutes: float) -> Fault:
    """A run without a fault that shows whether memory grows."""
    return Fault(
        "soak",
        f"nothing, for {minutes:g} minutes",
        partial(injections.soak, minutes=minutes),
        Bounds(obeyed_p99_seconds=P99, growth_kb_per_minute=GROWTH_KB_PER_MINUTE),
        Setup(has_small_caches=True),
    )
