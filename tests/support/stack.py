"""authsvc and the adapter as real processes, in front of an S3 API."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process, spawn
from tests.support.tokens import ISSUER

RESOURCE = "http://127.0.0.1/mcp"
ROLES = ("reader", "analyst")
LOCAL_CALLER = f'resources = ["{RESOURCE}"]'
START_SECONDS = TIMEOUT_SECONDS

PORT_ATTEMPTS = 30
"""Starts on a port that is taken for a moment; each takes most of a second."""

DEADLINE_SECONDS = 10.0
"""Of the adapter's calls: enough for a busy machine, and what a test of a dead authsvc waits."""


def start_authsvc(
    folder: Path,
    running: ExitStack,
    *,
    listen: str = "127.0.0.1:0",
    callers: str = LOCAL_CALLER,
    tables: str = "",
    credentials: str | None = None,
) -> tuple[Process, str]:
    """authsvc, and where it listens. ``folder`` holds ``secret`` and a ``.key`` for each role.

    ``credentials`` are static ones for each role, unless given.
    """
    if credentials is None:
        credentials = "".join(
            f"""
[[credentials.static]]
role = "{role}"
access_key_id = "AKIA{role.upper()}"
secret_access_key_file = "{folder}/{role}.key"
"""
            for role in ROLES
        )
    config = folder / "authsvc.toml"
    config.write_text(
        f"""
listen = "{listen}"
log_level = "debug"
drain_seconds = 0
{callers}
[store]
path = "{folder}/authsvc.db"
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"
{credentials}
{tables}
"""
    )
    for _ in range(PORT_ATTEMPTS):
        process = running.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        try:
            return process, str(process.wait_for("listening on", START_SECONDS)["address"])
        except AssertionError:
            # While authsvc was down, a connection of another process got its port.
            if "cannot be listened on" not in process.output:
                raise
    raise AssertionError(f"{listen} stays taken")


def start_adapter(
    folder: Path,
    running: ExitStack,
    *,
    authsvc: str,
    s3: str,
    tls: str = "",
    tables: str = "",
    deadline_seconds: float = DEADLINE_SECONDS,
) -> tuple[Process, str]:
    """An adapter, and its URL."""
    config = folder / "adapter.toml"
    config.write_text(
        f"""
listen = "127.0.0.1:0"
resource = "{RESOURCE}"
authorization_servers = ["{ISSUER}"]
log_level = "debug"
[authsvc]
target = "{authsvc}"
deadline_seconds = {deadline_seconds}
{tls}
[s3]
endpoint_url = "{s3}"
region = "us-east-1"
{tables}
"""
    )
    process = running.enter_context(spawn("mcp_adapter", "serve", "--config", str(config)))
    address = process.wait_for("listening on", START_SECONDS)["address"]
    return process, f"http://{address}"
