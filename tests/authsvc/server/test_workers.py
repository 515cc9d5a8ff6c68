"""Real workers share a port, are replaced, drain, and end with their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import grpc
import pytest

from authsvc.server import workers
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.processes import ROOT, Process, spawn, until
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

WAIT_SECONDS = TIMEOUT_SECONDS


@pytest.fixture
def idp() -> IdentityProvider:
    return IdentityProvider(time.time)


@pytest.fixture
def config(tmp_path: Path, idp: IdentityProvider) -> Path:
    path = tmp_path / "authsvc.toml"
    path.write_text(
        f"""
listen = "127.0.0.1:0"
workers = 2
resources = ["{RESOURCE}"]
[store]
path = "{tmp_path}/authsvc.db"
[[issuers]]
issuer = "{idp.issuer}"
algorithms = ["HS256"]
secret_file = "{idp.write_secret(tmp_path)}"
"""
    )
    return path


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(config: Path, running: ExitStack) -> tuple[Process, str]:
    process = running.enter_context(spawn("authsvc", "serve", "--config", str(config)))
    return process, str(process.wait_for("listening on", WAIT_SECONDS)["address"])


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def resolve(address: str, token: str, session_id: str, *, create: bool = False) -> int:
    """The outcome, on a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(address, options=options) as channel:
        stub = pb_grpc.AuthServiceStub(channel)
        request = pb.ResolveSessionRequest(
            session_id=session_id, token=token, resource=RESOURCE, create=create
        )
        answer = stub.ResolveSession(request, timeout=WAIT_SECONDS, wait_for_ready=True)
        return int(answer.outcome)


def test_workers_share_a_port_and_a_store(
    config: Path, running: ExitStack, idp: IdentityProvider
) -> None:
    process, address = start(config, running)
    assert len(children(process.pid)) == 2
    token = idp.token()
    assert resolve(address, token, "s", create=True) == pb.OUTCOME_CREATED
    # Sixteen connections: that all of them go to one worker happens once in 32,768 runs.
    assert {resolve(address, token, "s") for _ in range(16)} == {pb.OUTCOME_REUSED}


def test_each_worker_counts_the_calls_that_it_serves(
    config: Path, running: ExitStack, idp: IdentityProvider
) -> None:
    """Two workers serve at most twice the burst, whatever connections a client opens."""
    _, address = start(config, running)
    limit = pb.RateLimit(name="one", calls_per_second=1e-6, burst=3, per=pb.RATE_PER_SUBJECT)
    request = pb.ResolveSessionRequest(token=idp.token(), resource=RESOURCE, rate_limits=[limit])
    options = (("grpc.use_local_subchannel_pool", 1),)
    served = 0
    for _ in range(40):
        with grpc.insecure_channel(address, options=options) as channel:
            stub = pb_grpc.AuthServiceStub(channel)
            try:
                stub.ResolveSession(request, timeout=WAIT_SECONDS, wait_for_ready=True)
                served += 1
            except grpc.RpcError as error:
                assert "for the limit one" in str(error)  # noqa: PT017
    # That fewer than 3 of 40 connections go to one worker happens once in a billion runs.
    assert served == 2 * 3


def test_a_worker_that_dies_is_replaced(
    config: Path, running: ExitStack, idp: IdentityProvider
) -> None:
    process, address = start(config, running)
    before = set(children(process.pid))
    os.kill(min(before), signal.SIGKILL)
    process.wait_for("a worker has ended", WAIT_SECONDS)
    until(lambda: len(children(process.pid)) == 2)
    assert set(children(process.pid)) != before
    assert resolve(address, idp.token(), "s", create=True) == pb.OUTCOME_CREATED


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_workers(
    config: Path, running: ExitStack, signal_number: signal.Signals
) -> None:
    process, _ = start(config, running)
    workers = children(process.pid)
    process.kill(signal_number)
    assert process.wait(WAIT_SECONDS) == 0
    assert not any(is_alive(worker) for worker in workers)


def test_workers_do_not_outlive_their_supervisor(config: Path, running: ExitStack) -> None:
    process, _ = start(config, running)
    workers = children(process.pid)
    process.kill(signal.SIGKILL)
    until(lambda: not any(is_alive(worker) for worker in workers))


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_a_port_of_another_program_is_an_error(config: Path, tmp_path: Path, shared: bool) -> None:
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        ended = serve(config)
    assert ended.returncode == 2
    assert f"listen: 127.0.0.1:{port} cannot be listened on" in ended.stderr


def test_workers_that_cannot_start_end_the_supervisor(config: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    ended = serve(config)
    assert ended.returncode == 2
    assert "secret_file" in ended.stderr
    assert "a worker would not start" in ended.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("127.0.0.1:0", "unix:/tmp/x.sock", "needs a port"),
        ("[store]\npath", '[store]\nkind = "memory"\n# path', "needs a store"),
    ],
)
def test_an_error_names_what_workers_cannot_share(
    config: Path, old: str, new: str, named: str
) -> None:
    config.write_text(config.read_text().replace(old, new))
    ended = serve(config)
    assert ended.returncode == 2
    assert f"workers > 1 {named}" in ended.stderr


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "authsvc", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        cwd=ROOT,
        check=False,
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


IGNORES_SIGTERM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(int(sys.argv[-1]), b"1")
time.sleep(3600)
"""


@pytest.mark.anyio
async def test_a_worker_that_does_not_end_is_killed(
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "authsvc.server.workers")
    monkeypatch.setattr(workers, "STOP_MARGIN_SECONDS", 0.1)
    settings = settings_for(
        tmp_path,
        IdentityProvider(clock),
        "sqlite",
        listen="127.0.0.1:0",
        workers=2,
        drain_seconds=0.0,
        grace_seconds=0.1,
    )
    command = [sys.executable, "-c", IGNORES_SIGTERM]
    async with asyncio.timeout(WAIT_SECONDS):
        supervising = asyncio.create_task(workers.supervise(settings, command))
        while "listening on" not in caplog.text:  # noqa: ASYNC110 - other processes are at work
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await supervising
    assert caplog.text.count("has not ended") == 2


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["_reload", "_stop", "_kill"])
async def test_a_worker_that_has_just_ended_keeps_no_signal_from_the_others(
    tmp_path: Path, clock: Clock, action: str
) -> None:
    signalled: list[int] = []

    class Worker:
        pid = 1

        def send_signal(self, number: int) -> None:
            signalled.append(number)
            raise ProcessLookupError

    settings = settings_for(tmp_path, IdentityProvider(clock), "sqlite", grace_seconds=600.0)
    supervisor = workers._Supervisor(settings, [], {})
    ended = cast("set[asyncio.subprocess.Process]", {Worker(), Worker()})
    supervisor._processes, supervisor._serving = ended, set(ended)
    getattr(supervisor, action)()
    assert len(signalled) == 2
