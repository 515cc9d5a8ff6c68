"""The load test by itself, against a real authsvc."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest

from authsvc.stores.sqlite import SqliteStore
from bench.population import Population
from bench.processes import authsvc_server
from bench.stage import configuration
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SECONDS = TIMEOUT_SECONDS
MIX = "hot=4,earlier=1,refresh=1,upgrade=1,create=1,anonymous=1,refused=1,tokenless=1,principal=1"


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.load", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.parametrize("mode", ["unary", "stream"])
async def test_every_kind_of_request_is_answered_as_its_row_says(mode: str, tmp_path: Path) -> None:
    population = Population.of(1)
    database = tmp_path / "sessions.db"
    await (await SqliteStore.open(database, unauthenticated_cap=1)).close()
    report = tmp_path / "report.json"
    async with authsvc_server(
        configuration(tmp_path, population, database), tmp_path / "log"
    ) as server:
        loaded = load(
            *("--target", server.address, "--issuer", population.issuer),
            *("--secret-file", str(tmp_path / "secret"), "--resource", population.resource),
            *("--mode", mode, "--mix", MIX, "--rate", "100", "--seconds", "2"),
            *("--sessions", "200", "--token-bytes", "1024", "--output", str(report)),
        )
    # A busy machine may have the generator lag, and it says so.
    assert loaded.returncode == 0 or "the generator lagged" in loaded.stderr, loaded.stderr
    figures = json.loads(report.read_text())
    assert figures["failed"] == {}
    assert set(figures["histograms"]) == {part.partition("=")[0] for part in MIX.split(",")}
    assert figures["sample"]["calls"] == pytest.approx(200, rel=0.4)


@pytest.mark.parametrize("target", ["192.0.2.1:50051", "authsvc.example:50051", "0.0.0.0:1", "x"])
def test_only_this_machine_is_loaded(target: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(token_hex(16))
    refused = load(
        *("--target", target, "--issuer", "i", "--resource", "https://mcp.example/mcp"),
        *("--secret-file", str(tmp_path / "secret")),
    )
    assert refused.returncode == 2
    assert "127.0.0.1" in refused.stderr
