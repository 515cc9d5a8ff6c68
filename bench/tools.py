"""``python -m bench.tools``: what a tool call costs, beside the same S3 call made directly.

Both sides run in this process, with one S3 client each that is kept, as it is for credentials that
authsvc has cached. The S3 API is a process of its own, and its CPU time does not count.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import uvloop

from authsvc.domain.resolution import AwsCredentials, Principal, Secret
from bench.figures import Sample, Summary, machine, table, write_report
from bench.processes import START_SECONDS, ServerError, ended
from demo.buckets import BUCKETS, objects
from mcp_adapter import caller
from mcp_adapter.testing import as_caller
from mcp_adapter.tools import Call, Tool
from mcp_adapter.tools.listing import bucket_objects_list
from mcp_adapter.tools.objects import bucket_object_info, bucket_object_text
from mcp_adapter.tools.s3 import S3Clients

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

LIMIT = 1.3
"""How much more CPU time a tool call may take than the S3 call in it."""

BUCKET = BUCKETS[0]
KEY = min(objects(BUCKET))

WARM_UP_CALLS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A tool call, and the S3 call in it."""

    tool: Tool
    arguments: Mapping[str, object]
    direct: Callable[[S3Client], Awaitable[object]]

    @property
    def alone(self) -> str:
        """The name of the side that makes the S3 call alone."""
        return f"{self.tool.name}, S3 alone"


async def _list(client: S3Client) -> object:
    return await client.list_objects_v2(Bucket=BUCKET, Prefix="", MaxKeys=100)


async def _head(client: S3Client) -> object:
    return await client.head_object(Bucket=BUCKET, Key=KEY)


async def _get(client: S3Client) -> object:
    answer = await client.get_object(Bucket=BUCKET, Key=KEY, Range="bytes=0-65535")
    async with answer["Body"] as body:
        return (await body.read()).decode()


PLACE = {"bucket": BUCKET, "key": KEY}
PAIRS = (
    Pair(bucket_objects_list, {"bucket": BUCKET}, _list),
    Pair(bucket_object_info, PLACE, _head),
    Pair(bucket_object_text, PLACE, _get),
)

Samples = dict[str, list[Sample]]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=9, show_default=True, help="Samples of each side.")
@click.option("--calls", default=100, show_default=True, help="Calls in a sample, one by one.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("var/bench/tools.json"),
    show_default=True,
    help="Where every sample goes, as JSON.",
)
def main(rounds: int, calls: int, output: Path) -> None:
    """Compare tool calls and direct S3 calls, alternating in one run, by CPU time.

    Fails when a tool call takes more than 1.3 times the CPU time of its S3 call, by the medians.
    """
    try:
        samples = uvloop.run(compare(rounds, calls))
    except ServerError as error:
        raise click.ClickException(str(error)) from None
    click.echo(render(samples))
    click.echo(f"\nMedians (quartiles). {', '.join(machine().values())}")
    write_report(output, {"rounds": rounds, "calls": calls}, samples)
    click.echo(f"Every sample: {output}")
    if worst := over_limit(samples):
        raise click.ClickException(f"over {LIMIT}: {', '.join(worst)}")


async def compare(rounds: int, calls: int) -> Samples:
    """Sample every side once a round, the other way round every other time."""
    samples: Samples = {}
    async with _storage() as url:
        clients = S3Clients(endpoint_url=url, region="us-east-1")
        issued = AwsCredentials("AKIABENCH", Secret("bench"), None, "us-east-1", 0.0)
        permissions = ("s3:ListBucket", "s3:GetObject")
        who = Principal("idp", "bench", 2e9, buckets=(BUCKET,), permissions=permissions)
        call = Call(caller(as_caller(who, credentials=issued)), clients)
        async with clients.client(issued) as client:
            for pair in PAIRS:
                sides = [
                    (pair.tool.name, lambda pair=pair: pair.tool.run(call, pair.arguments)),
                    (pair.alone, lambda pair=pair: pair.direct(client)),
                ]
                for _, side in sides:
                    await _sample(side, WARM_UP_CALLS)
                for number in range(rounds):
                    for name, side in sides if number % 2 else reversed(sides):
                        samples.setdefault(name, []).append(await _sample(side, calls))
        await clients.close()
    return samples


async def _sample(side: Callable[[], Awaitable[object]], calls: int) -> Sample:
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(calls):
        await side()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Sample(calls, seconds, server_cpu_seconds=0.0, client_cpu_seconds=cpu_seconds)


@asynccontextmanager
async def _storage() -> AsyncIterator[str]:
    """The demo's S3 API as a process, ended on the way out.

    Raises:
        ServerError: it did not start.
    """
    arguments = ("-m", "demo.s3", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=PIPE, start_new_session=True
    )
    if process.stderr is None:
        raise AssertionError("it is a pipe")
    try:
        async with asyncio.timeout(START_SECONDS):
            while line := (await process.stderr.readline()).decode():
                if found := re.search(r"listening on (\S+)", line):
                    break
            else:
                raise ServerError("the S3 API did not start")
        yield found[1]
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process)


def render(samples: Mapping[str, Sequence[Sample]]) -> str:
    """A row for each tool."""
    head = ["one call", "CPU µs, tool", "CPU µs, S3 alone", "ratio"]
    rows = [
        [
            pair.tool.name,
            Summary.of(_micros(samples[pair.tool.name])).show(),
            Summary.of(_micros(samples[pair.alone])).show(),
            _ratio(samples, pair).show(2),
        ]
        for pair in PAIRS
    ]
    return table(head, rows)


def over_limit(samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """The tools that cost more than they may."""
    return [pair.tool.name for pair in PAIRS if _ratio(samples, pair).median > LIMIT]


def _ratio(samples: Mapping[str, Sequence[Sample]], pair: Pair) -> Summary:
    tool, direct = samples[pair.tool.name], samples[pair.alone]
    return Summary.of_ratios(_micros(tool), _micros(direct))


def _micros(samples: Sequence[Sample]) -> list[float]:
    return [sample.client_micros for sample in samples]


if __name__ == "__main__":
    main()
