"""A load generator that is not ours: h2load of nghttp2 posts a recorded request."""

from __future__ import annotations

import asyncio
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import asdict
from pathlib import Path

from bench.calls import UNARY
from bench.figures import Sample, Summary
from bench.generator import LoadError
from bench.mixes import KINDS
from bench.population import Population, fill
from bench.section import Options, Section
from bench.stage import CONNECTIONS, IN_FLIGHT, Stage, alternate, authsvc_stage

SESSIONS = 2_000
CALLS = 6_000
TITLE = "An independent load on the unary path: h2load"
SECONDS = 60.0


async def run(options: Options) -> Section:
    """See the module."""
    h2load = shutil.which("h2load")
    if h2load is None:
        why = "Skipped: h2load is not installed (Debian: apt-get install nghttp2-client)."
        return Section(TITLE, notes=(why,))
    folder = options.folder / "independent"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    body = folder / "body"
    request = KINDS["hot"].ask(population, 0, 0).SerializeToString()
    body.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
    async with authsvc_stage(folder, population) as stage:
        await stage.warm_up()

        async def theirs() -> Sample:
            return await _post(h2load, stage, body)

        async def ours() -> Sample:
            return (await stage.load(UNARY, calls=CALLS, spread=1)).sample

        taken = await alternate(
            options.rounds, {"h2load": theirs, "bench.load": ours}, options.step
        )
    return Section(
        TITLE,
        head=("row 8, unary, one session", "calls/s", "server's CPU µs", "server's CPUs busy"),
        rows=[
            [
                name,
                Summary.of(sample.calls_per_second for sample in samples).show(),
                Summary.of(sample.server_micros for sample in samples).show(),
                Summary.of(sample.server_load for sample in samples).show(2),
            ]
            for name, samples in taken.items()
        ],
        notes=(
            (
                f"{IN_FLIGHT} in flight over {CONNECTIONS} connections, a closed loop. Both agree "
                "on what a call costs the server, or one of them is wrong."
            ),
        ),
        samples={name: [asdict(sample) for sample in samples] for name, samples in taken.items()},
    )


async def _post(h2load: str, stage: Stage, body: Path) -> Sample:
    """Post the body over and over.

    Raises:
        LoadError: not every call was answered.
    """
    arguments = ("-n", str(CALLS), "-c", str(CONNECTIONS), "-m", str(IN_FLIGHT // CONNECTIONS))
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    cpu_start = stage.server.cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        h2load,
        *arguments,
        *headers,
        "-d",
        str(body),
        f"http://{stage.server.address}{UNARY}",
        stdin=DEVNULL,
        stdout=PIPE,
    )
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()
    cpu_seconds = stage.server.cpu_seconds() - cpu_start
    text = output.decode()
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    served = re.search(r"(\d+) succeeded", text)
    if rate is None or served is None or int(served[1]) != CALLS:
        raise LoadError(f"h2load: {text[-500:]}")
    return Sample(CALLS, CALLS / float(rate[1]), cpu_seconds, 0.0)
