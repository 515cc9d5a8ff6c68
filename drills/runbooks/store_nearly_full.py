"""Fills the memory of Valkey: nearly, then wholly; and raises its limit."""

from __future__ import annotations

from functools import partial

from drills.drill import Drill
from drills.filling import fill
from drills.load import KNOWN
from drills.stage import Stage

SESSIONS = 5_000
USED_FRACTION = 0.88
ALERT_FRACTION = 0.85
FULL_SECONDS = 80.0
"""AuthsvcStoreNotWritable fires after a minute."""

RECOVERY_SECONDS = 10.0

_ALERT = "AuthsvcStoreNearlyFull"


async def steps(stage: Stage) -> None:
    stage.step(f"maxmemory is such that {USED_FRACTION:.0%} of it is used")
    await fill(stage, SESSIONS)
    _limit(stage, USED_FRACTION)
    stage.step("metrics, doctor and the alert say that it is nearly full")
    for replica in stage.replicas:
        await stage.until(
            f"{replica.name} says so", partial(_is_nearly_full, stage, replica.metrics)
        )
    ran = await stage.run(
        "authsvc doctor --config /etc/authsvc/authsvc.toml",
        places={"/etc/authsvc/authsvc.toml": stage.replicas[0].config},
    )
    stage.check(
        "doctor says so", "of its memory is used" in ran.out and "Raise maxmemory" in ran.out
    )
    if stage.watch is not None:
        # It fires after ten minutes, which tests/deploy has; here its condition has to hold.
        await stage.until(f"{_ALERT} is pending", partial(stage.watch.is_pending, _ALERT))
        stage.note(f"{_ALERT} was pending while no call failed")

    stage.step("it is full", is_outage=True, spares=[KNOWN])
    _limit(stage, 1.05)
    await stage.until("sessions cannot begin", partial(_fails, stage))
    stage.step("known sessions go on, others cannot begin", is_outage=True, spares=[KNOWN])
    await stage.hold(FULL_SECONDS)
    calls = stage.tally.steps[-1].calls
    for text, chosen in (
        ("known calls", [it for it in calls if it.kind == KNOWN]),
        ("creations and new tokens", [it for it in calls if it.kind != KNOWN]),
    ):
        failed = sum(bool(it.failure) for it in chosen)
        stage.note(f"while it was full {failed} of {len(chosen)} {text} failed")
    stage.check("the log says so", stage.logged("the store takes no writes"))

    stage.step("CONFIG SET maxmemory 2gb", is_outage=True, spares=[KNOWN])
    stage.valkey_cli("CONFIG SET maxmemory 2gb")
    seconds = await stage.until(
        "a session begins", partial(stage.load.attempt, "recovered"), seconds=RECOVERY_SECONDS
    )
    stage.note(f"a session began {seconds:.2f} s after maxmemory was raised, without a restart")
    await stage.until("the log says so", lambda: stage.logged("the store takes writes again"))
    stage.step("it is over: metrics and the alert say so")
    for replica in stage.replicas:
        await stage.until(f"{replica.name} says so", partial(_has_space, stage, replica.metrics))
    if stage.watch is not None:
        await stage.until(f"{_ALERT} has ended", partial(_has_ended, stage))


def _limit(stage: Stage, used_fraction: float) -> None:
    """Set ``maxmemory`` such that a part of it is used."""
    with stage.valkey.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", int(used / used_fraction))


async def _used_fraction(stage: Stage, metrics: str) -> float:
    used = await stage.metric(metrics, "authsvc_store_space_used_bytes", kind="memory")
    limit = await stage.metric(metrics, "authsvc_store_space_limit_bytes", kind="memory")
    return used / limit if used and limit else 0.0


async def _is_nearly_full(stage: Stage, metrics: str) -> bool:
    return await _used_fraction(stage, metrics) > ALERT_FRACTION


async def _has_space(stage: Stage, metrics: str) -> bool:
    return 0 < await _used_fraction(stage, metrics) < ALERT_FRACTION


async def _has_ended(stage: Stage) -> bool:
    return stage.watch is None or not await stage.watch.is_pending(_ALERT)


async def _fails(stage: Stage) -> bool:
    return not await stage.load.attempt("full")


DRILL = Drill(
    name="store-nearly-full",
    about="Valkey's memory is nearly full, then full; its limit is raised.",
    page="docs/runbook.md#a-store-that-is-nearly-full",
    before="",
    steps=steps,
    alerts=frozenset({"AuthsvcStoreNotWritable"}),
)
