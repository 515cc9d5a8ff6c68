"""Fills the disk of SQLite, and frees it."""

from __future__ import annotations

from functools import partial

from drills.disk import full
from drills.drill import Drill
from drills.load import KNOWN
from drills.stage import Stage

RECOVERY_SECONDS = 15.0


async def steps(stage: Stage) -> None:
    (replica,) = stage.replicas
    log = stage.folder / "authsvc.db-wal"

    def others() -> int:
        return max(replica.log.stat().st_size, replica.events.stat().st_size)

    stage.step("SQLite's log is longer than the files that go on")
    await stage.until("it is", lambda: log.stat().st_size > others() + 100_000)
    stage.step("the disk is full", is_outage=True, spares=[KNOWN])
    with full(replica, others() + 50_000):
        await stage.until("sessions cannot begin", lambda: _fails(stage))
        stage.step("known sessions go on, others cannot begin", is_outage=True, spares=[KNOWN])
        await stage.hold(30, short=6)
        known = [it for it in stage.tally.steps[-1].calls if it.kind == KNOWN]
        failed = sum(bool(it.failure) for it in known)
        stage.note(f"while the disk was full {failed} of {len(known)} known calls failed")
        stage.check("the log says so", stage.logged("STORE_UNAVAILABLE"))
    stage.step("space is free again", is_outage=True, spares=[KNOWN])
    seconds = await stage.until(
        "a session begins", partial(stage.load.attempt, "recovered"), seconds=RECOVERY_SECONDS
    )
    stage.note(f"a session began {seconds:.2f} s after there was space, without a restart")
    stage.step("it is over")
    await stage.hold(3, short=1)


async def _fails(stage: Stage) -> bool:
    return not await stage.load.attempt("full")


DRILL = Drill(
    name="full-disk",
    about="The disk of a single replica with SQLite is full.",
    page="docs/runbook.md#by-log-line",
    before="1,720 of 1,800 known calls failed",
    steps=steps,
    store="sqlite",
)
