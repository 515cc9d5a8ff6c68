"""Finds out whose session a truncated id of a log line is, before and after it has ended."""

from __future__ import annotations

import time

from chaos.identity import RESOURCE
from drills.drill import Drill
from drills.filling import fill
from drills.stage import Stage

SESSIONS = 20_000
SHORT_SESSIONS = 300


async def steps(stage: Stage) -> None:
    stage.step("a person's session begins, then many others")
    client = await stage.load.begin("ada")
    count = SHORT_SESSIONS if stage.is_short else SESSIONS
    start = time.monotonic()
    await fill(stage, count)
    stage.note(f"{count:,} sessions were stored in {time.monotonic() - start:.0f} s")
    shown = f"{client.session[:8]}…"

    stage.step("authsvc sessions show")
    start = time.monotonic()
    ran = await stage.run("authsvc sessions show 4fZk0Qe1…", places={"4fZk0Qe1…": shown})
    stage.note(
        f"found among {count:,} sessions, the command's start included, in "
        f"{time.monotonic() - start:.1f} s"
    )
    stage.check(f"it names the subject: {ran.err.strip()}", " ada\n" in ran.out)
    stage.check("and the resource", RESOURCE in ran.out)
    stage.step("authsvc sessions revoke")
    ran = await stage.run("authsvc sessions revoke 4fZk0Qe1…", "--yes", places={"4fZk0Qe1…": shown})
    stage.check(f"it ends the session: {ran.err.strip()}", ran.code == 0)
    stage.step("the audit says whose it was, also once nothing else does")
    told = [
        (event["event_type"], event["subject"], event["client_id"], event["resource"])
        for replica in stage.replicas
        for event in replica.security_events()
        if event.get("session") == shown
    ]
    stage.note(f"the audit has {', '.join(it[0] for it in told) or 'nothing'} of the session")
    begun = ("SESSION_CREATED", "ada", "chaos", RESOURCE)
    stage.check("once it names subject, client and resource", told.count(begun) == 1)
    stage.check(
        "once it says that it was revoked", [it[0] for it in told].count("SESSION_REVOKED") == 1
    )
    ran = await stage.run("authsvc sessions show 4fZk0Qe1…", places={"4fZk0Qe1…": shown})
    stage.check(f"it is shown as revoked: {ran.err}", "revoked" in ran.out)


DRILL = Drill(
    name="id-to-person",
    about="A log line has eight characters of a session's id: whose is it?",
    page="docs/runbook.md#from-a-truncated-id-to-a-person",
    before="nine in ten of 100,000 sessions were not found",
    steps=steps,
    is_short=True,
)
