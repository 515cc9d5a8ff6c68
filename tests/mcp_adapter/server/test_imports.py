"""What a server that needs it not never imports: it would cost each start time and memory."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process
from tests.support.stack import start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

SITE = """
import atexit, gc, os, sys

collections = []

def collected(phase, info):
    for name in ("authsvc.server.running", "mcp_adapter.server.running"):
        if name in sys.modules and not hasattr(sys.modules[name], "serve"):
            collections.append("collected while importing")

def report():
    with open(os.environ["IMPORTED"], "w") as file:
        file.write("\\n".join([*sys.modules, *collections]))

gc.callbacks.append(collected)
atexit.register(report)
"""
"""Of a Python process that says at its end what it has imported, and whether garbage was collected
meanwhile."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For configurations of such processes."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))
    IdentityProvider(time.time).write_secret(tmp_path)
    return tmp_path


def imported(process: Process, folder: Path) -> set[str]:
    """What a process had imported, once it is stopped."""
    process.kill(signal.SIGTERM)
    assert process.wait(TIMEOUT_SECONDS) == 0
    return set((folder / "imported").read_text().splitlines())


def test_an_adapter_without_calls_of_s3_does_without_aiobotocore(folder: Path) -> None:
    with ExitStack() as running:
        adapter, url = start_adapter(
            folder, running, authsvc="127.0.0.1:1", s3="http://127.0.0.1:1"
        )
        ready = httpx2.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)
        modules = imported(adapter, folder)

    assert ready.status_code == 503
    assert "mcp_adapter.tools.s3" in modules
    assert "collected while importing" not in modules
    assert not modules & {"aiobotocore", "aiohttp", "botocore", "mcp_adapter.tools.s3_api"}


def test_an_authsvc_collects_no_garbage_while_it_is_imported(folder: Path) -> None:
    with ExitStack() as running:
        authsvc, _ = start_authsvc(folder, running, credentials="")
        modules = imported(authsvc, folder)

    assert "authsvc.server.running" in modules
    assert "collected while importing" not in modules
