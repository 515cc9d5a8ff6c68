"""Replicas of authsvc as processes, ended at the end of their block."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from authsvc.client import ClientTls
from authsvc.net.development_certificates import write_development_certificates
from chaos.identity import ISSUER, RECEIVER, RESOURCE, Issuer
from chaos.valkey import HOST, free_port

START_SECONDS = 120.0
STOP_SECONDS = 60.0
GRACE_SECONDS = 5.0

_POLL_SECONDS = 0.02
_PAGE_KB = 4


class ReplicaError(Exception):
    """A replica did not start."""


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


class Replica:
    """One replica, at a port that it keeps through restarts.

    Args:
        name: for the history, and its files.
        site: what it shares with the others.
        can_step_clock: whether ``step_clock`` will be called.
    """

    def __init__(self, name: str, site: Site, *, can_step_clock: bool = False) -> None:
        self.name = name
        self.address = ""
        self._site = site
        self._port = self._signals_port = 0
        self._can_step_clock = can_step_clock
        self._config = site.folder / f"{name}.toml"
        self._log = site.folder / f"{name}.log"
        self._offset = site.folder / f"{name}.offset"
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            ReplicaError: it does not.
        """
        self._port = self._port or free_port()
        self._signals_port = self._signals_port or free_port()
        self.address = f"{HOST}:{self._port}"
        self._config.write_text(self._site.config(self._port, self._signals_port), encoding="utf-8")
        log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the harness alone, which then ends it in order.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command(),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._listening(self._process, log_start)
        except TimeoutError:
            raise ReplicaError(f"{self.name} does not listen:\n{self.log_end()}") from None

    @property
    def signals_url(self) -> str:
        """Where it receives security event tokens."""
        return f"http://{HOST}:{self._signals_port}/signals/events"

    def log_end(self) -> str:
        """The end of what it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2_000:]

    def kill(self) -> None:
        """End it as a crash would."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend its process: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume its process."""
        self._signal(signal.SIGCONT)

    def drain(self) -> None:
        """Ask it to stop after the calls in flight."""
        self._signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; its exit code.

        Raises:
            ReplicaError: it does not end in time.
        """
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self._running().wait()
        except TimeoutError:
            raise ReplicaError(f"{self.name} does not end:\n{self.log_end()}") from None

    async def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def step_clock(self, seconds: float) -> None:
        """Set the offset of its clock from the machine's. It takes effect within milliseconds."""
        self._offset.write_text(str(seconds), encoding="ascii")
        self._signal(signal.SIGUSR1)

    def resident_kb(self) -> int:
        """Its resident memory, in KB."""
        statm = Path(f"/proc/{self._running().pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * _PAGE_KB

    def _command(self) -> Sequence[str]:
        if not self._can_step_clock:
            return ("-m", "authsvc", "serve", "--config", str(self._config))
        self._offset.write_text("0", encoding="ascii")
        config, offset = str(self._config), str(self._offset)
        return ("-m", "chaos.replica", "--config", config, "--offset", offset)

    def _signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def _running(self) -> Process:
        if self._process is None:
            raise ReplicaError(f"{self.name} was not started")
        return self._process

    async def _listening(self, process: Process, log_start: int) -> None:
        while not _says_listening(self._log.read_bytes()[log_start:]):
            if process.returncode is not None:
                raise ReplicaError(f"{self.name} has ended:\n{self.log_end()}")
            await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def replicas(
    site: Site, count: int, *, can_step_clock: bool = False
) -> AsyncIterator[tuple[Replica, ...]]:
    """Replicas that are started together, and ended at the end of the block.

    Raises:
        ReplicaError: one does not start.
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


def _says_listening(log: bytes) -> bool:
    for line in log.splitlines():
        try:
            event = json.loads(line).get("event", "")
        except ValueError:
            continue
        if str(event).startswith("listening on"):
            return True
    return False
