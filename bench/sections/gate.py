"""What the gate adds to a tool call: CPU in the adapter, beside the same app without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.apps import PATHS, TOOL
from bench.figures import Sample, Summary
from bench.generator import LoadError
from bench.population import Population, fill
from bench.processes import ServerProcess, module_server
from bench.section import Goal, Options, Section
from bench.serving import SERVED_BY
from bench.stage import Side, alternate, authsvc_stage

ERAS = {"legacy": "2025-11-25", "modern": "2026-07-28"}
CALLS = 400
CONNECTIONS = 8
GOAL_MICROS = 110.0
SECONDS = 60.0

GATE, BARE = PATHS

Samples = Mapping[tuple[str, str], list[Sample]]


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "gate"
    folder.mkdir()
    population = Population.of(100)
    await fill(folder / "sessions.db", population)
    async with (
        authsvc_stage(folder, population, processes=1) as stage,
        module_server("bench.apps", stage.server.address, population.resource) as adapter,
    ):
        token = population.first_token(0)
        sides: dict[tuple[str, str], Side[Sample]] = {}
        for era, version in ERAS.items():
            for name, path in PATHS.items():
                session = population.session_id(0) if era == "legacy" else ""
                # Requests of one session that are in flight together have ids of their own.
                requests = [
                    tool_call(path, version, token, session, number)
                    for number in range(CONNECTIONS)
                ]
                sides[era, name] = _side(adapter, requests)
        samples = await alternate(options.rounds, sides, options.step)
    return Section(
        title="What the gate adds to a tool call",
        head=(
            "tools/call of a trivial tool",
            "CPU µs in the adapter",
            "gate and hop",
            "calls/s",
        ),
        rows=[_row(samples, era, name) for era in ERAS for name in PATHS],
        notes=(
            (
                f"{SERVED_BY} One adapter process serves the same tool twice: behind the gate, "
                "which resolves at authsvc on each request, and without it. "
                f"{CONNECTIONS} connections, HTTP/1.1, one request in flight on each."
            ),
        ),
        samples={
            f"{era}, {name}": [asdict(sample) for sample in taken]
            for (era, name), taken in samples.items()
        },
        goals=[
            Goal(
                f"gate and hop, {ERAS[era]}: CPU in the adapter, more than without",
                GOAL_MICROS,
                _more(samples, era, GATE),
                digits=0,
                unit="µs",
            )
            for era in ERAS
        ],
    )


def _side(adapter: ServerProcess, requests: Sequence[bytes]) -> Side[Sample]:
    return lambda: closed_loop(adapter, requests)


async def closed_loop(
    adapter: ServerProcess, requests: Sequence[bytes], calls: int = CALLS
) -> Sample:
    """Each request over and over, on a connection of its own.

    Raises:
        LoadError: the tool did not answer.
    """
    connections = [await connected(adapter) for _ in requests]
    start, cpu_start = asyncio.get_running_loop().time(), adapter.cpu_seconds()

    async def caller(
        request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for _ in range(calls // CONNECTIONS):
            _, body = await exchange(reader, writer, request)
            if b'"hello"' not in body:
                raise LoadError(f"a tool call was answered {body[:300]!r}")

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as callers:
        for request, connection in zip(requests, connections, strict=True):
            callers.create_task(caller(request, *connection))
    cpu_seconds = adapter.cpu_seconds() - cpu_start
    seconds = asyncio.get_running_loop().time() - start
    for _, writer in connections:
        writer.close()
    return Sample(calls, seconds, cpu_seconds, 0.0)


async def connected(
    adapter: ServerProcess,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to it."""
    host, _, port = adapter.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[str, bytes]:
    """The response's head, in lower case, and its body."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    _, _, after = head.partition("content-length:")
    if not after:
        raise LoadError(f"a response of unknown length: {head[:300]}")
    return head, await reader.readexactly(int(after.split(None, 1)[0]))


def tool_call(
    path: str, version: str, token: str, session: str, number: int, *, tool: str = TOOL
) -> bytes:
    """A request of a tool, as a client of that revision makes it."""
    params: dict[str, object] = {"name": tool, "arguments": {}}
    headers = {"MCP-Protocol-Version": version, "Authorization": f"Bearer {token}"}
    if session:
        headers["Mcp-Session-Id"] = session
    else:
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return _post(path, message, headers)


def _post(path: str, message: object, headers: Mapping[str, str]) -> bytes:
    body = json.dumps(message).encode()
    lines = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def _micros(samples: Sequence[Sample]) -> list[float]:
    return [sample.server_micros for sample in samples]


def _more(samples: Samples, era: str, name: str) -> Summary:
    return Summary.of_differences(_micros(samples[era, name]), _micros(samples[era, BARE]))


def _row(samples: Samples, era: str, name: str) -> list[str]:
    taken = samples[era, name]
    return [
        f"{era}, {name}",
        Summary.of(_micros(taken)).show(),
        _more(samples, era, name).show(),
        Summary.of(sample.calls_per_second for sample in taken).show(),
    ]
