"""The servers without uvloop, and on a platform that they do not support."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from click import Command
from click.testing import CliRunner

from authsvc.cli import main as authsvc
from authsvc.common import event_loop
from authsvc.console.cli import main as console
from authsvc.console.passphrases import operator_line
from mcp_adapter.server.cli import main as mcp_adapter
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.operators import write_tls
from tests.support.processes import Process, spawn
from tests.support.python_site import begin_processes_without
from tests.support.stack import LOCAL_CALLER, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

NOTICE = "uvloop is not installed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For configurations; Python processes from here on find no uvloop."""
    begin_processes_without("uvloop", tmp_path, monkeypatch)
    IdentityProvider(time.time).write_secret(tmp_path)
    return tmp_path


def stopped(process: Process) -> None:
    process.kill(signal.SIGHUP)
    process.wait_for("reload requested: certificates", TIMEOUT_SECONDS)
    process.kill(signal.SIGTERM)
    assert process.wait(TIMEOUT_SECONDS) == 0
    assert NOTICE in process.output


def test_authsvc_and_the_adapter_serve(folder: Path) -> None:
    with ExitStack() as running:
        service, address = start_authsvc(folder, running, credentials="")
        adapter, url = start_adapter(folder, running, authsvc=address, s3="http://127.0.0.1:1")
        ready = httpx2.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)
        assert ready.status_code == 200
        stopped(adapter)
        stopped(service)


def test_workers_serve(folder: Path) -> None:
    with ExitStack() as running:
        callers = f"workers = 2\n{LOCAL_CALLER}"
        supervisor, _ = start_authsvc(folder, running, credentials="", callers=callers)
        stopped(supervisor)
        assert supervisor.output.count(NOTICE) == 3


def test_the_console_serves(folder: Path) -> None:
    config = folder / "console.toml"
    (folder / "operators").write_text(operator_line("ada", "a passphrase of ours"))
    config.write_text(
        f"""
listen = "127.0.0.1:0"
operators_file = "{folder}/operators"
[authsvc]
target = "127.0.0.1:1"
ca_file = "{write_tls(folder / "tls")}/ca.pem"
service_token_file = "{folder}/tls/operator"
"""
    )
    with spawn("authsvc.console", "serve", "--config", str(config)) as process:
        url = process.wait_for("listening on", TIMEOUT_SECONDS)["address"]
        assert "Passphrase" in httpx2.get(f"{url}/sign-in", timeout=TIMEOUT_SECONDS).text
        stopped(process)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (authsvc, ("serve",)),
        (authsvc, ("console",)),
        (console, ("serve",)),
        (mcp_adapter, ("serve",)),
    ],
)
def test_an_unsupported_platform_is_named_in_one_line(
    program: Command, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loop, "PLATFORM", "win32")
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "not on Windows: use WSL or a container" in line
    assert not done.stdout
