"""``make run``: what it prints works, and it ends without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from demo.children import ChildFailedError, Children
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.valkey import free_port

ROOT = Path(__file__).parents[2]
TIMEOUT = TIMEOUT_SECONDS


def command(folder: Path, ports: list[int]) -> list[str]:
    flags = ("--authsvc-port", "--adapter-port", "--s3-port", "--metrics-port")
    options = [text for pair in zip(flags, map(str, ports), strict=True) for text in pair]
    return [sys.executable, "-m", "demo", "--folder", str(folder), *options]


@contextmanager
def demo(folder: Path, ports: list[int]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running demo, and what it has printed when it is ready."""
    process = subprocess.Popen(
        # Under nohup a demo outlives its terminal; here it does not, however the tests are run.
        ["/usr/bin/env", "--default-signal=HUP", *command(folder, ports)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    watchdog = threading.Timer(5 * TIMEOUT, process.kill)  # not before a wait within has ended
    watchdog.start()
    printed = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if "Ctrl-C stops all of it." in line:
                break
        yield process, printed
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def pasted(printed: str, number: int) -> str:
    """The lines of one of the numbered parts, as they are."""
    return printed.partition(f"\n# {number}. ")[2].partition("\n")[2].partition("\n# ")[0]


def run(script: str) -> str:
    """What a shell prints that is given these lines."""
    done = subprocess.run(
        ["/bin/bash", "-e"],
        input=script,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_it_prints_works_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(4)]
    with demo(tmp_path / "demo", ports) as (process, printed):
        assert "Ready." in printed, printed
        call, role, sessions, client = (pasted(printed, number) for number in (1, 2, 3, 4))
        first = run(call)
        assert first.count('"key"') == 2
        assert len(first) < 1_500
        assert run(client) == "32 buckets\n"
        assert "ada" in run(sessions)
        run(role)
        assert run(client) == "1 buckets\n"
        url = f"http://127.0.0.1:{ports[1]}"
        assert httpx2.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS).status_code == 200
        metrics = httpx2.get(f"http://127.0.0.1:{ports[3]}/metrics", timeout=TIMEOUT_SECONDS).text
        assert 'authsvc_resolves_total{result="created"' in metrics
        token = tmp_path / "demo" / "token"
        for name in ("token", "secret", "aws.key", "authsvc.db"):
            assert (tmp_path / "demo" / name).stat().st_mode & 0o077 == 0
        logs = "".join(path.read_text() for path in (tmp_path / "demo").glob("*.log"))
        assert token.read_text().strip() not in logs
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 0
    assert not any(map(in_use, ports))


def test_it_starts_again_with_its_keys_and_a_fresh_token(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(4)]
    secrets, tokens = set(), set()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        with demo(tmp_path, ports) as (process, printed):
            assert "Ready." in printed, printed
            secrets.add((tmp_path / "secret").read_text())
            tokens.add((tmp_path / "token").read_text())
            process.send_signal(ending)
            assert process.wait(TIMEOUT_SECONDS) == 0
        assert not any(map(in_use, ports))
    assert (len(secrets), len(tokens)) == (1, 2)


def test_a_process_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    with Children() as children, pytest.raises(ChildFailedError, match="No such option"):
        children.start("s3", "demo.s3", "--surprise", log=tmp_path / "s3.log")


def test_a_process_that_ends_by_itself_is_told_with_its_log(tmp_path: Path) -> None:
    with Children() as children:
        children.start("s3", "demo.s3", "--port", "0", log=tmp_path / "s3.log")
        children.check()
        _, process, _, _ = children._running[0]
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        with pytest.raises(ChildFailedError, match=r"s3 ended with code -9:\n.*listening on"):
            children.check()


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_taken_port_is_named(tmp_path: Path, taken: int) -> None:
    ports = [free_port() for _ in range(4)]
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[taken]))
        other.listen()
        result = subprocess.run(
            command(tmp_path, ports),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    assert result.returncode == 1
    assert f"port {ports[taken]} of 127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr
