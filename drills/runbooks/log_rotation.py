"""Rotates logs as logrotate does: a SIGHUP to every program."""

from __future__ import annotations

import signal

from drills.drill import Drill
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    replica = stage.replicas[0]
    rotated = replica.events.with_suffix(".1")
    stage.step("the audit's file is renamed, and authsvc gets a SIGHUP")
    replica.events.rename(rotated)
    for each in stage.replicas:
        each.signal(signal.SIGHUP)
    await stage.until("there is a new file", replica.events.exists)
    stage.check("it is for its owner alone", replica.events.stat().st_mode & 0o077 == 0)
    stage.step("the adapters get a SIGHUP")
    for adapter in stage.adapters:
        adapter.signal(signal.SIGHUP)
    stage.step("events are written to the new file")
    size = rotated.stat().st_size
    await stage.until("an event is there", lambda: replica.events.stat().st_size > 0)
    await stage.hold(3, short=1)
    stage.check("and none to the old one", rotated.stat().st_size == size)
    stage.check("no program has ended", all(it.is_running for it in stage.programs))


DRILL = Drill(
    name="log-rotation",
    about="Logs are rotated, and every program gets a SIGHUP.",
    page="docs/operations.md#rotation",
    before="SIGHUP ended authsvc, the console and the adapter, undrained",
    steps=steps,
    is_short=True,
)
