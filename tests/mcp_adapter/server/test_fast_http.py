"""The adapter parses HTTP by httptools, on uvloop. h11 and asyncio's loop would cost more CPU than
the gate does."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process
from tests.support.python_site import begin_processes_without
from tests.support.stack import start_adapter
from tests.support.tokens import IdentityProvider

NO_LOOP = """
from asyncio.selector_events import BaseSelectorEventLoop

def init(*args, **kwargs):
    raise RuntimeError("asyncio's own loop")

BaseSelectorEventLoop.__init__ = init
"""
"""Of a Python process that has no loop of asyncio's own."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a configuration of an adapter in such a process."""
    begin_processes_without("h11", tmp_path, monkeypatch, code=NO_LOOP)
    IdentityProvider(time.time).write_secret(tmp_path)
    return tmp_path


def stopped(process: Process) -> None:
    process.kill(signal.SIGTERM)
    assert process.wait(TIMEOUT_SECONDS) == 0


def test_the_adapter_serves_without_h11_and_without_asyncios_loop(folder: Path) -> None:
    with ExitStack() as running:
        adapter, url = start_adapter(
            folder, running, authsvc="127.0.0.1:1", s3="http://127.0.0.1:1"
        )
        alive = httpx2.get(f"{url}/healthz", timeout=TIMEOUT_SECONDS)
        stopped(adapter)

    assert alive.status_code == 200
