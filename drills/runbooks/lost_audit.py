"""Fills the disk of the audit, notices it, and mends it."""

from __future__ import annotations

from chaos.identity import Token
from drills.disk import full
from drills.drill import Drill
from drills.load import Client
from drills.stage import Stage

ROOM_BYTES = 4_000_000
"""The audit's file is longer than all others of its program, so that it alone cannot grow."""


async def steps(stage: Stage) -> None:
    replica = stage.replicas[0]
    with replica.events.open("a", encoding="utf-8") as events:
        events.write(f'{{"event": "{"earlier " * (ROOM_BYTES // 8)}"}}\n')
    stage.step("the audit's disk is full")
    with full(replica, replica.events.stat().st_size):
        lost = "audit: events were not written"
        await stage.until("the log says so", lambda: _reject(stage, lost))
        stage.step("it is noticed, and calls go on")
        await stage.hold(20, short=3)
        lines = stage.logged(lost, replica)
        stage.note(f"{lines} lines of the log say that events were not written")
        stage.check("at most one line a minute", lines <= 1 + stage.tally.steps[-1].seconds // 60)
        counted = await stage.metric(replica.metrics, "authsvc_audit_events_total", result="failed")
        stage.note(f"authsvc_audit_events_total has {counted or 0:.0f} that failed")
        stage.check("the metric counts them", counted)
    stage.step("space is free again")
    before = len(replica.security_events("TOKEN_REJECTED"))
    await stage.until(
        "events are written again, without a restart",
        lambda: _reject(stage, "", more_than=before),
    )


async def _reject(stage: Stage, text: str, *, more_than: int = 0) -> bool:
    """Cause a security event, a forged token's; whether a line is logged, or an event is there."""
    replica = stage.replicas[0]
    client = await stage.load.begin("forger")
    head, _, signature = client.token.text.rpartition(".")
    forged = Token("forger", 1, f"{head}.{signature[::-1]}")
    await stage.load.call(Client("forger", forged, client.session))
    if text:
        return stage.logged(text, replica) > 0
    return len(replica.security_events("TOKEN_REJECTED")) > more_than


DRILL = Drill(
    name="lost-audit",
    about="The disk of the audit is full: it is noticed, mended, and what is lost is counted.",
    page="docs/runbook.md#by-log-line",
    before="lost events were counted as written, with 45 lines of log each",
    steps=steps,
    is_short=True,
)
