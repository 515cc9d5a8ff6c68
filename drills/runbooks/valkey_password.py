"""Rotates authsvc's password of Valkey."""

from __future__ import annotations

from hashlib import sha256

from drills.drill import Drill
from drills.installation import write_secret
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    installation = stage.installation
    password, users = installation.secrets / "valkey-password", installation.secrets / "users.acl"
    text = users.read_text("ascii")
    old = sha256(password.read_text("ascii").strip().encode()).hexdigest()
    write_secret(password)
    new = sha256(password.read_text("ascii").strip().encode()).hexdigest()
    stage.check("users.acl has the old digest", text.count(f"#{old}") == 1)

    stage.step("users.acl has both digests, ACL LOAD")
    users.write_text(text.replace(f"#{old}", f"#{old} #{new}"), encoding="ascii")
    stage.valkey_cli("ACL LOAD")
    await stage.hold(2)
    stage.step("authsvc has the new password")
    await stage.deliver(*stage.replicas)
    stage.step("authsvc is rolled: its connections are new")
    await stage.roll()
    stage.step("users.acl has the new digest alone, ACL LOAD")
    await installation.make_secrets(installation.secrets)
    stage.check("make_secrets.py writes it", f"#{new}" in users.read_text("ascii"))
    stage.check("and no other", old not in users.read_text("ascii"))
    stage.valkey_cli("ACL LOAD")
    await stage.hold(3)


DRILL = Drill(
    name="valkey-password",
    about="The password with which authsvc connects to Valkey is replaced.",
    page="docs/operations.md#rotation",
    before="",
    steps=steps,
)
