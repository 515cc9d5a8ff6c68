"""Replicas of authsvc as processes, ended at the end of their block."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from authsvc.client import ClientTls
from authsvc.net.development_certificates import write_development_certificates
from chaos.identity import ISSUER, RECEIVER, RESOURCE, Issuer
from chaos.program import Program
from chaos.valkey import HOST, free_port

GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Site:
    """What all replicas of a run share.

    Attributes:
        folder: where their files are.
        issuer: whose tokens they trust.
        store: the lines of their table ``[store]``.
        cached: sessions and tokens in each replica's caches; None for the defaults.
    """

    folder: Path
    issuer: Issuer
    store: str
    cached: int | None = None

    def prepare(self) -> None:
        """Write certificates, secrets and service tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_development_certificates(self.folder, client_name="spiffe://chaos/load")
        self.issuer.write_secret(self.folder / "secret")
        for caller in ("load", "operator"):
            (self.folder / f"{caller}.token").write_text(secrets.token_urlsafe(32))

    def tls(self, caller: str) -> ClientTls:
        """TLS and service token of ``load`` or ``operator``."""
        return ClientTls(self.folder / "ca.pem", service_token_file=self.folder / f"{caller}.token")

    def config(self, port: int, signals_port: int) -> str:
        """The configuration of the replica at a port, which receives signals at another."""
        folder, few = self.folder, self.cached
        return f"""
listen = "{HOST}:{port}"
log_format = "json"
grace_seconds = {GRACE_SECONDS}
{f"cached_tokens = {few}" if few else ""}

[tls]
certificate_file = "{folder}/server.pem"
key_file = "{folder}/server.key"

[[callers]]
name = "load"
resources = ["{RESOURCE}"]
service_token_files = ["{folder}/load.token"]

[[callers]]
name = "operator"
admin = true
service_token_files = ["{folder}/operator.token"]

[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"

[signals]
listen = "{HOST}:{signals_port}"

[[signals.streams]]
issuer = "{ISSUER}"
audiences = ["{RECEIVER}"]

[store]
{self.store}
{f"cached_sessions = {few}" if few else ""}
"""


class Replica(Program):
    """One replica, at a port that it keeps through restarts.

    Args:
        name: for the history, and its files.
        site: what it shares with the others.
        can_step_clock: whether ``step_clock`` will be called.
    """

    def __init__(self, name: str, site: Site, *, can_step_clock: bool = False) -> None:
        super().__init__(name, site.folder / f"{name}.log")
        self.address = ""
        self._site = site
        self._port = self._signals_port = 0
        self._can_step_clock = can_step_clock
        self._config = site.folder / f"{name}.toml"
        self._offset = site.folder / f"{name}.offset"

    def command(self) -> Sequence[str]:
        """Its configuration is written anew at each start."""
        self._port = self._port or free_port()
        self._signals_port = self._signals_port or free_port()
        self.address = f"{HOST}:{self._port}"
        self._config.write_text(self._site.config(self._port, self._signals_port), encoding="utf-8")
        if not self._can_step_clock:
            return ("-m", "authsvc", "serve", "--config", str(self._config))
        self._offset.write_text("0", encoding="ascii")
        config, offset = str(self._config), str(self._offset)
        return ("-m", "chaos.replica", "--config", config, "--offset", offset)

    @property
    def signals_url(self) -> str:
        """Where it receives security event tokens."""
        return f"http://{HOST}:{self._signals_port}/signals/events"

    def step_clock(self, seconds: float) -> None:
        """Set the offset of its clock from the machine's. It takes effect within milliseconds."""
        self._offset.write_text(str(seconds), encoding="ascii")
        self.signal(signal.SIGUSR1)


@asynccontextmanager
async def replicas(
    site: Site, count: int, *, can_step_clock: bool = False
) -> AsyncIterator[tuple[Replica, ...]]:
    """Replicas that are started together, and ended at the end of the block.

    Raises:
        ProgramError: one does not start.
    """
    fleet = tuple(
        Replica(f"replica-{number}", site, can_step_clock=can_step_clock) for number in range(count)
    )
    try:
        async with asyncio.TaskGroup() as starting:
            for replica in fleet:
                starting.create_task(replica.start())
        yield fleet
    finally:
        for replica in fleet:
            await replica.end()
