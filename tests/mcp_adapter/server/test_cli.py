"""The program as it is run: started, stopped, not started for a wrong configuration."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from authsvc.http_server.listening import listening_sockets
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process, spawn

START_SECONDS = TIMEOUT_SECONDS

SETTINGS = """
listen = "127.0.0.1:0"
resource = "http://127.0.0.1:8000/mcp"
authorization_servers = ["https://idp.example"]
log_format = "json"
[authsvc]
target = "unix:/nonexistent/authsvc.sock"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A complete configuration; authsvc is away."""
    path = tmp_path / "adapter.toml"
    path.write_text(SETTINGS)
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mcp_adapter", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


@contextmanager
def started(config: Path, *arguments: str) -> Iterator[tuple[Process, str]]:
    with spawn("mcp_adapter", "serve", "--config", str(config), *arguments) as process:
        yield process, f"http://{process.wait_for('listening', START_SECONDS)['address']}"


def test_it_is_alive_but_not_ready_without_authsvc(config: Path) -> None:
    with started(config) as (_, url):
        alive = httpx2.get(f"{url}/healthz", timeout=TIMEOUT_SECONDS)
        ready = httpx2.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["reason"]) == (503, "authsvc is unreachable")
    assert "server" not in alive.headers


def test_no_request_is_served_without_authsvc(config: Path) -> None:
    with started(config) as (process, url):
        headers = {
            "Authorization": "Bearer secret-token",
            "Accept": "application/json, text/event-stream",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        response = httpx2.post(
            f"{url}/mcp?access_token=secret-token",
            json=body,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )
        process.wait_for("request rejected", START_SECONDS)

        assert "secret-token" not in process.output

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(config: Path, signal_number: int) -> None:
    with started(config) as (process, url):
        with httpx2.Client(base_url=url, timeout=TIMEOUT_SECONDS) as http:
            http.get("/healthz")
            process.kill(signal_number)
            assert process.wait(START_SECONDS) == 0

        assert "Traceback" not in process.output


def test_a_taken_port_is_named(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--config", str(config), "--listen", f"127.0.0.1:{port}")

    assert result.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_replica_listens_elsewhere(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with started(config, "--listen", f"127.0.0.1:{port}") as (_, url):
        assert url == f"http://127.0.0.1:{port}"
        assert httpx2.get(f"{url}/healthz", timeout=TIMEOUT_SECONDS).status_code == 200


def test_a_wrong_setting_is_named(config: Path) -> None:
    config.write_text(SETTINGS.replace("resource", "ressource"))

    result = run("serve", "--config", str(config))

    assert result.returncode == 2
    assert f"{config}: ressource: there is no such setting; is it resource?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_flag_is_named(config: Path) -> None:
    result = run("serve", "--config", str(config), "--listen", "8000")

    assert result.returncode == 2
    assert "'--listen': is an address like 127.0.0.1:8000" in result.stderr


def test_help_helps() -> None:
    assert "serve" in run("--help").stdout
    assert "MCP_ADAPTER_AUTHSVC__TARGET" in run("serve", "--help").stdout


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_what_is_accepted_answers_at_once(address: str) -> None:
    """Without TCP_NODELAY each answer waits for an acknowledgement, 40 ms as a rule."""
    with listening_sockets(address) as listeners:
        for listener in listeners:
            with (
                socket.create_connection(listener.getsockname()[:2]),
                listener.accept()[0] as accepted,
            ):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
