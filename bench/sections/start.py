"""How long each program takes from its start to the first answer, and its memory then."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.calls import UNARY, connect
from bench.figures import Summary
from bench.generator import LoadError
from bench.mixes import KINDS
from bench.population import Population, fill
from bench.processes import START_SECONDS, ServerError, ServerProcess, ended
from bench.section import Goal, Options, Section
from bench.sections.gate import connected, exchange, tool_call
from bench.stage import alternate, authsvc_stage, configuration

AUTHSVC, ADAPTER = "authsvc", "adapter"
GOAL_SECONDS = {AUTHSVC: 0.3, ADAPTER: 0.8}
GOAL_IDLE_MB = 90.0

IDLE_SECONDS = 1.0
"""After the first answer, what a program does at its start has ended."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes:
        seconds: from the start of the process to the first answer.
        cpu_seconds: of the process until then.
        idle_bytes: resident a while later, without load.
    """

    seconds: float
    cpu_seconds: float
    idle_bytes: int


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "start"
    folder.mkdir()
    population = Population.of(100)
    await fill(folder / "sessions.db", population)
    async with authsvc_stage(folder, population, processes=1) as running:
        own = configuration(folder / AUTHSVC, population, folder / "sessions.db")
        adapter = _adapter_configuration(folder, population, running.server.address)

        async def authsvc_starts() -> Start:
            async with _started(("authsvc", own), folder) as (process, begin):
                _ask_authsvc(process, population)
                return await _measured(process, begin)

        async def adapter_starts() -> Start:
            async with _started(("mcp_adapter", adapter), folder) as (process, begin):
                await _ask_adapter(process, population)
                return await _measured(process, begin)

        sides = {AUTHSVC: authsvc_starts, ADAPTER: adapter_starts}
        taken = await alternate(options.rounds, sides, options.step)
    return _section(taken)


@asynccontextmanager
async def _started(
    program: tuple[str, Path], folder: Path
) -> AsyncIterator[tuple[ServerProcess, float]]:
    """A program that listens, and when its process was started, by ``time.monotonic``.

    Raises:
        ServerError: it did not start.
    """
    module, config = program
    # Bytecode is there from the second start on, as it is where a package was installed.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "serve", "--config", str(config)),
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            yield ServerProcess(process.pid, await _address(process, module)), begin
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process)


async def _address(process: Process, module: str) -> str:
    """What the program logs once it listens."""
    if process.stderr is None:
        raise AssertionError("it is a pipe")
    lines = []
    while line := (await process.stderr.readline()).decode():
        lines.append(line)
        fields = json.loads(line) if line.startswith("{") else {}
        if str(fields.get("event", "")).startswith("listening"):
            return str(fields["address"])
    raise ServerError(f"{module} did not start: {''.join(lines)}")


def _ask_authsvc(server: ServerProcess, population: Population) -> None:
    """Row 8, by a call.

    Raises:
        LoadError: the answer is wrong.
    """
    calls, kind = connect(server.address, UNARY), KINDS["hot"]
    calls.ask(0, kind.ask(population, 0, 0).SerializeToString())
    calls.flush()
    while not (answers := list(calls.answers())):
        calls.flush()
    calls.connection.close()
    if not all(kind.is_right(answer) for _, answer in answers):
        raise LoadError("authsvc's first answer is wrong")


async def _ask_adapter(server: ServerProcess, population: Population) -> None:
    """A tool call, which is resolved at the other authsvc.

    Raises:
        LoadError: the tool did not answer.
    """
    request = tool_call(
        *("/mcp", "2025-11-25", population.first_token(0), population.session_id(0), 1),
        tool="whoami",
    )
    reader, writer = await connected(server)
    _, body = await exchange(reader, writer, request)
    writer.close()
    if population.subject(0).encode() not in body:
        raise LoadError(f"a tool call was answered {body[:300]!r}")


async def _measured(server: ServerProcess, begin: float) -> Start:
    seconds, cpu_seconds = time.monotonic() - begin, server.cpu_seconds()
    await asyncio.sleep(IDLE_SECONDS)
    return Start(seconds, cpu_seconds, server.resident_bytes())


def _adapter_configuration(folder: Path, population: Population, target: str) -> Path:
    path = folder / "adapter.toml"
    path.write_text(
        f"""\
listen = "127.0.0.1:0"
resource = {json.dumps(population.resource)}
authorization_servers = [{json.dumps(population.issuer)}]
log_format = "json"

[authsvc]
target = {json.dumps(target)}

[s3]
endpoint_url = "http://127.0.0.1:9"
""",
        encoding="utf-8",
    )
    return path


def _section(taken: Mapping[str, list[Start]]) -> Section:
    idle = {name: Summary.of(it.idle_bytes / 1e6 for it in taken[name]) for name in taken}
    return Section(
        title="From the start of a process to its first answer",
        head=("", "s", "CPU s", "MB resident, idle"),
        rows=[
            [
                name,
                Summary.of(start.seconds for start in starts).show(2),
                Summary.of(start.cpu_seconds for start in starts).show(2),
                idle[name].show(),
            ]
            for name, starts in taken.items()
        ],
        notes=(
            (
                "Files are in the page cache, and bytecode is compiled: the first start of each "
                "does not count. Included are the interpreter, imports, the configuration, the "
                "store (SQLite, 100 sessions), listening, a connection of the client's and one "
                "request: row 8 by a call at authsvc, and a tool call in a session at the adapter, "
                "whose authsvc runs already."
            ),
            f"Memory is what is resident {IDLE_SECONDS:.0f} s later.",
        ),
        samples={name: [asdict(start) for start in starts] for name, starts in taken.items()},
        goals=[
            *(
                Goal(
                    f"start to first answer, {name}",
                    limit,
                    Summary.of(start.seconds for start in taken[name]),
                    unit="s",
                )
                for name, limit in GOAL_SECONDS.items()
            ),
            Goal("resident, adapter idle", GOAL_IDLE_MB, idle[ADAPTER], digits=0, unit="MB"),
        ],
    )
