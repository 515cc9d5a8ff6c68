"""Servers as processes of their own, and the CPU time that they take.

Each is started in a session of its own, so that Ctrl-C reaches the load generator alone, which then
ends them in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05

LOG_SHOWN = 2000
"""Characters of a log."""

_CPUCLOCK_SCHED = 2

_CPUS = frozenset(os.sched_getaffinity(0))

PLACEMENTS = ("apart", "free") if len(_CPUS) > 1 else ("free",)
"""``apart``: the server has one CPU, the client the others. ``free``: wherever they are put."""


class ServerError(Exception):
    """A server did not start, or ended before its time."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server, its workers included."""

    pid: int
    address: str

    def pids(self) -> list[int]:
        """Of the process and of those that it started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [self.pid, *map(int, children.split())]

    def cpu_seconds(self) -> float:
        """CPU time of all threads so far, user and system, to the nanosecond.

        This is the clock of clock_getcpuclockid(3), whose id Linux makes from the process's: the
        same sum as the process's own getrusage(2), without asking it.
        """
        return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in self.pids())

    def resident_bytes(self) -> int:
        """Memory that is resident."""
        pages = (Path(f"/proc/{pid}/statm").read_text(encoding="ascii") for pid in self.pids())
        return sum(int(text.split()[1]) for text in pages) * os.sysconf("SC_PAGE_SIZE")


def place(server: ServerProcess, placement: str, clients: Sequence[int] = ()) -> None:
    """Have the server and its clients run apart or wherever they like.

    Args:
        server: the server.
        placement: one of ``PLACEMENTS``.
        clients: process ids; this process is one of them.
    """
    first, *others = sorted(_CPUS)
    apart = placement == "apart"
    for pid in server.pids():
        _run_on(pid, [first] if apart else _CPUS)
    for pid in (os.getpid(), *clients):
        _run_on(pid, others if apart else _CPUS)


def _run_on(pid: int, cpus: Iterable[int]) -> None:
    """Keep all threads of a process to these CPUs. New threads inherit it."""
    allowed = set(cpus)
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end between the listing and the call.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), allowed)


@asynccontextmanager
async def echo_server(
    model: str, *, request_bytes: int, response_bytes: int
) -> AsyncIterator[ServerProcess]:
    """``bench.echo`` as a process, ended on the way out.

    Raises:
        ServerError: it did not start.
    """
    async with module_server("bench.echo", model, str(request_bytes), str(response_bytes)) as it:
        yield it


@asynccontextmanager
async def module_server(module: str, *arguments: str) -> AsyncIterator[ServerProcess]:
    """A module as a process that prints its address and ends with its standard input.

    Raises:
        ServerError: it did not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise ServerError(f"{module} did not start")
        yield ServerProcess(process.pid, line.decode().strip())
    finally:
        process.stdin.close()
        await ended(process)


@asynccontextmanager
async def authsvc_server(config: Path, log: Path) -> AsyncIterator[ServerProcess]:
    """``python -m authsvc serve`` as a process, ended on the way out.

    Args:
        config: its configuration; ``log_format`` has to be ``json``.
        log: the file that its log goes to.

    Raises:
        ServerError: it did not start; the message is the end of its log.
    """
    arguments = ("-m", "authsvc", "serve", "--config", str(config))
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stderr=stderr, start_new_session=True
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (address := _logged_address(log)):
                if process.returncode is not None:
                    raise ServerError(f"authsvc did not start: {_end_of(log)}")
                await asyncio.sleep(POLL_SECONDS)
        yield ServerProcess(process.pid, address)
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process)


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8")[-LOG_SHOWN:].strip()


def _logged_address(log: Path) -> str:
    """The field ``address`` of the line that says that authsvc listens; empty before it."""
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            fields = json.loads(line)
            if str(fields["event"]).startswith("listening on"):
                return str(fields["address"])
    return ""


async def ended(process: Process) -> None:
    """Wait until a process that was told to end has ended; kill it when it does not."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
