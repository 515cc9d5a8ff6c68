"""A real Prometheus beside a drill: which alerts of deploy/monitoring fired, and when."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx2

from chaos.valkey import HOST, free_port
from drills.errors import DrillError
from drills.installation import ROOT, replace_file

RULES = ROOT / "deploy" / "monitoring" / "alerts.yaml"
UNPACKED = ROOT / "var" / "prometheus" / "prometheus"
"""Where ``scripts/clients.sh`` unpacks Debian's package."""

JOBS = ("authsvc", "mcp-adapter")
INTERVAL_SECONDS = 5
START_SECONDS = 60.0

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert that has fired.

    Attributes:
        name: of its rule.
        time: when it fired first, seconds since the epoch.
    """

    name: str
    time: float


class Prometheus:
    """A server that scrapes what is published.

    Args:
        folder: of its configuration, log and data.
        port: where it listens.
        http: asks it.
    """

    def __init__(self, folder: Path, port: int, http: httpx2.AsyncClient) -> None:
        self._folder = folder
        self._url = f"http://{HOST}:{port}"
        self._http = http

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self._folder / "prometheus.yml"

    def configure(self) -> None:
        """Write the configuration: as deploy/monitoring/prometheus.yaml, with our targets."""
        jobs = "".join(
            f"""
  - job_name: {job}
    file_sd_configs:
      - files: ["{self._targets(job)}"]
        refresh_interval: 1s"""
            for job in JOBS
        )
        self.config.write_text(
            f"""
global:
  scrape_interval: {INTERVAL_SECONDS}s
  evaluation_interval: {INTERVAL_SECONDS}s
rule_files: ["{RULES}"]
scrape_configs:{jobs}
""",
            encoding="utf-8",
        )

    def publish(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Have these be scraped from now on: addresses by job."""
        for job, addresses in targets.items():
            document = json.dumps([{"targets": list(addresses)}])
            replace_file(self._targets(job), document.encode())

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            DrillError: it does not in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                answer = await self._http.get(f"{self._url}/-/ready")
                if answer.status_code == HTTPStatus.OK:
                    return
            await asyncio.sleep(_POLL_SECONDS)
        raise DrillError(f"Prometheus does not start: {self._folder}/prometheus.log")

    async def is_pending(self, name: str) -> bool:
        """Whether an alert's condition holds now, whether it has held for long enough or not."""
        answer = await self._http.get(
            f"{self._url}/api/v1/query", params={"query": f'ALERTS{{alertname="{name}"}}'}
        )
        return bool(answer.json()["data"]["result"])

    async def fired(self, since: float) -> list[Fired]:
        """The alerts that have fired since a time, in seconds since the epoch."""
        answer = await self._http.get(
            f"{self._url}/api/v1/query_range",
            params={
                "query": 'ALERTS{alertstate="firing"}',
                "start": f"{since:.3f}",
                "end": f"{time.time():.3f}",
                "step": f"{INTERVAL_SECONDS}s",
            },
        )
        first: dict[str, float] = {}
        for series in answer.json()["data"]["result"]:
            name, begin = series["metric"]["alertname"], float(series["values"][0][0])
            first[name] = min(begin, first.get(name, begin))
        return sorted((Fired(*it) for it in first.items()), key=lambda it: it.time)

    def _targets(self, job: str) -> Path:
        return self._folder / f"{job}.targets.json"


def executable() -> str | None:
    """The path of Prometheus; None where there is none."""
    return shutil.which("prometheus") or (str(UNPACKED) if UNPACKED.is_file() else None)


@asynccontextmanager
async def prometheus(
    program: str, folder: Path, http: httpx2.AsyncClient
) -> AsyncIterator[Prometheus]:
    """A server, ended at the end of the block.

    Raises:
        DrillError: it does not start.
    """
    port = free_port()
    server = Prometheus(folder, port, http)
    server.configure()
    with (folder / "prometheus.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={server.config}",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address={HOST}:{port}",
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        await server.ready()
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
