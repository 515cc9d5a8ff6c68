"""Rotates the authority: both everywhere, then new certificates, then the old one out."""

from __future__ import annotations

from drills.drill import Drill
from drills.installation import replace_file
from drills.programs import Ran, Replica
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    installation = stage.installation
    authorities = installation.secrets / "ca.crt"
    replace_file(stage.folder / "old-ca.crt", authorities.read_bytes())

    stage.step("--rotate-ca start; ca.crt has both authorities, everywhere")
    ran = await stage.run("python deploy/make_secrets.py --rotate-ca start", installation.secrets)
    stage.check(f"it is done: {ran.err.strip()}", ran.code == 0)
    stage.check("ca.crt has two", authorities.read_text("ascii").count("BEGIN") == 2)
    installation.mount("operator")
    await stage.deliver()
    await _new_connections(stage)
    stage.step("--rotate-ca issue; new certificates, a replica at a time")
    ran = await stage.run("python deploy/make_secrets.py --rotate-ca issue", installation.secrets)
    stage.check(f"it is done: {ran.err.strip()}", ran.code == 0)
    for replica in stage.replicas:
        await stage.deliver(replica)
        await _new_connections(stage)
    # Longer than a connection lasts: each adapter has to verify a new certificate by both.
    await stage.hold(5, short=3)
    stage.step("--rotate-ca finish; the old authority is out, everywhere")
    ran = await stage.run("python deploy/make_secrets.py --rotate-ca finish", installation.secrets)
    stage.check(f"it is done: {ran.err.strip()}", ran.code == 0)
    stage.check("ca.crt has one", authorities.read_text("ascii").count("BEGIN") == 1)
    installation.mount("operator")
    await stage.deliver()
    await _new_connections(stage)
    stage.step("every connection is made anew")
    await stage.hold(5, short=3)
    ran = await _health(stage, stage.replicas[0])
    stage.check(f"a new connection works: {ran.err.strip()}", ran.code == 0)
    if not stage.is_short:
        ran = await _health(stage, stage.replicas[0], authority="old-ca.crt")
        stage.check("who knows the old authority alone does not connect", ran.code != 0)


async def _new_connections(stage: Stage) -> None:
    """A new connection to each replica, as a program makes one that starts now."""
    for replica in [] if stage.is_short else stage.replicas:
        ran = await _health(stage, replica)
        stage.check(f"a new connection to {replica.name} works: {ran.err.strip()}", ran.code == 0)


async def _health(stage: Stage, replica: Replica, authority: str = "") -> Ran:
    file = stage.folder / authority if authority else stage.installation.mounted("operator/ca.crt")
    return await stage.run(
        "authsvc health 127.0.0.1:50051 --ca-file /run/secrets/ca.crt --name authsvc",
        places={"127.0.0.1:50051": replica.address, "/run/secrets/ca.crt": file},
    )


DRILL = Drill(
    name="ca-rotation",
    about="The authority and the certificates of authsvc are replaced.",
    page="docs/operations.md#rotation",
    before="every new connection failed: both authorities had one name",
    steps=steps,
    is_short=True,
)
