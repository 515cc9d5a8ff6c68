"""No crash dumps the memory of a server: the limits and marks of real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.operators import write_tls
from tests.support.processes import Process, spawn
from tests.support.stack import LOCAL_CALLER, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

AT_THE_END = """
import atexit, ctypes, os, pathlib

def tell():
    PR_GET_DUMPABLE = 3
    dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
    pathlib.Path(__file__).with_name(f"dumpable-{os.getpid()}").write_text(str(dumpable))

atexit.register(tell)
"""
"""Only a process itself is told whether it can be dumped."""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each Python process notes as it ends whether it could be dumped."""
    folder = tmp_path / "noted"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AT_THE_END)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def core_limits(pid: int) -> list[str]:
    """The soft and the hard limit."""
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    line = next(line for line in limits if line.startswith("Max core file size"))
    return line.split()[4:6]


def ended(process: Process) -> None:
    process.kill(signal.SIGHUP)
    process.wait_for("reload requested: certificates", TIMEOUT_SECONDS)
    process.kill(signal.SIGTERM)
    assert process.wait(TIMEOUT_SECONDS) == 0


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def authsvc(folder: Path, running: ExitStack, tables: str = "", **options: str) -> Process:
    IdentityProvider(time.time).write_secret(folder)
    for role in ROLES:
        (folder / f"{role}.key").write_text(f"secret-of-{role}")
    return start_authsvc(folder, running, tables=tables, **options)[0]


def test_authsvc_and_its_workers(tmp_path: Path, noted: Path, running: ExitStack) -> None:
    process = authsvc(tmp_path, running, callers=f"workers = 2\n{LOCAL_CALLER}")
    pids = [process.pid, *children(process.pid)]
    assert len(pids) == 3
    assert [core_limits(pid) for pid in pids] == [["0", "0"]] * 3
    ended(process)
    assert {it.name: it.read_text() for it in noted.glob("dumpable-*")} == {
        f"dumpable-{pid}": "0" for pid in pids
    }


def test_the_adapter(tmp_path: Path, noted: Path, running: ExitStack) -> None:
    process, _ = start_adapter(tmp_path, running, authsvc="127.0.0.1:1", s3="http://127.0.0.1:9")
    assert core_limits(process.pid) == ["0", "0"]
    ended(process)
    assert (noted / f"dumpable-{process.pid}").read_text() == "0"


def test_the_console(tmp_path: Path, noted: Path, running: ExitStack) -> None:
    tls = write_tls(tmp_path / "tls")
    operators = tmp_path / "operators"
    operators.write_text(f"grace:scrypt:10:{'A' * 22}==:{'A' * 43}=\n")
    config = tmp_path / "console.toml"
    config.write_text(
        f"""
listen = "127.0.0.1:0"
operators_file = "{operators}"
[authsvc]
target = "127.0.0.1:1"
ca_file = "{tls}/ca.pem"
service_token_file = "{tls}/operator"
"""
    )
    process = running.enter_context(spawn("authsvc.console", "serve", "--config", str(config)))
    process.wait_for("listening on", TIMEOUT_SECONDS)
    assert core_limits(process.pid) == ["0", "0"]
    ended(process)
    assert (noted / f"dumpable-{process.pid}").read_text() == "0"


def test_a_setting_allows_them(tmp_path: Path, noted: Path, running: ExitStack) -> None:
    before = core_limits(os.getpid())
    process = authsvc(
        tmp_path, running, callers=f"allow_core_dumps = true\n{LOCAL_CALLER}", credentials=""
    )
    assert core_limits(process.pid) == before
    ended(process)
    assert (noted / f"dumpable-{process.pid}").read_text() == "1"
