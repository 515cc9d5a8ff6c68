"""Rotates the authority: both everywhere, then new certificates, then the old one out."""

from __future__ import annotations

from drills.drill import Drill
from drills.installation import replace_file
from drills.programs import Ran, Replica
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    installation = stage.installation
    secrets, made = installation.secrets, installation.folder / "secrets.new"
    old = (secrets / "ca.crt").read_bytes()
    replace_file(installation.folder / "old-ca.crt", old)

    stage.step("a new authority and new certificates are made aside")
    await installation.make_secrets(made)
    new = (made / "ca.crt").read_bytes()
    stage.step("ca.crt has both authorities, everywhere")
    replace_file(secrets / "ca.crt", old + new)
    installation.mount("operator")
    await stage.deliver()
    await _new_connections(stage)
    stage.step("new certificates, a replica at a time")
    for name in ("authsvc.crt", "authsvc.key"):
        replace_file(secrets / name, (made / name).read_bytes())
    for replica in stage.replicas:
        await stage.deliver(replica)
        await _new_connections(stage)
    stage.step("the old authority is out, everywhere")
    replace_file(secrets / "ca.crt", new)
    installation.mount("operator")
    await stage.deliver()
    await _new_connections(stage)
    for name in ("ca.crt", "ca.key"):
        replace_file(secrets / name, (made / name).read_bytes())
    stage.step("every connection is made anew")
    await stage.hold(5, short=4)
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
