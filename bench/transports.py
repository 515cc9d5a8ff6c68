"""``python -m bench.transports``: what the ways to run gRPC in Python cost, by a raw echo.

The evidence of ``docs/decisions/0001-grpc-server-architecture.md``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import uvloop

from authsvc.net.channels import open_channel
from bench import closed, echo
from bench.figures import Sample, Summary, machine, table, write_report
from bench.processes import PLACEMENTS, ServerProcess, echo_server, place

REQUEST_BYTES = 4600
"""A token of 4 KB, a session id, a resource."""
RESPONSE_BYTES = 3500
"""Session, principal with 32 buckets and 24 permissions, claims."""

WARM_UP_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Shape:
    """How calls travel.

    Attributes:
        name: as the table shows it.
        streamed: one bidirectional stream, or unary calls.
        batch: calls in a message.
        in_flight: messages without an answer yet.
    """

    name: str
    streamed: bool
    batch: int
    in_flight: int


SHAPES = (
    Shape("unary, 32 in flight", streamed=False, batch=1, in_flight=32),
    Shape("stream, 32 in flight", streamed=True, batch=1, in_flight=32),
    Shape("stream, 4 batches of 8", streamed=True, batch=8, in_flight=4),
    Shape("stream, 4 batches of 64", streamed=True, batch=64, in_flight=4),
)

HEAD = ("CPU µs a call", "ratio", "calls/s", "CPUs busy", "client's CPU µs")

BASE = echo.Model.AIO_UVLOOP
"""What the ratios of CPU µs a call are taken against."""

Cell = tuple[str, Shape, echo.Model]
"""Placement, shape, model."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=9, show_default=True, help="Samples of each cell.")
@click.option("--seconds", default=0.5, show_default=True, help="How long each sample takes.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("var/bench/transports.json"),
    show_default=True,
    help="Where every sample goes, as JSON.",
)
def main(rounds: int, seconds: float, output: Path) -> None:
    """Compare grpc.aio with and without uvloop and the thread pool, alternating in one run.

    "apart" gives server and client a CPU each; "free" lets them run where the system puts them.
    """
    samples = uvloop.run(compare(rounds, seconds))
    for placement in PLACEMENTS:
        click.echo("\n" + render(samples, placement))
    settings = {"request_bytes": REQUEST_BYTES, "response_bytes": RESPONSE_BYTES}
    named = {f"{where}/{shape.name}/{model}": s for (where, shape, model), s in samples.items()}
    write_report(output, {"rounds": rounds, "seconds": seconds, **settings}, named)
    click.echo(f"\nMedians (quartiles). {', '.join(machine().values())}\nEvery sample: {output}")


async def compare(rounds: int, seconds: float) -> dict[Cell, list[Sample]]:
    """Sample every cell once a round. The first round warms up and does not count."""
    cells: list[Cell] = [
        (placement, shape, model)
        for placement in PLACEMENTS
        for shape in SHAPES
        for model in echo.Model
    ]
    samples: dict[Cell, list[Sample]] = {cell: [] for cell in cells}
    async with _servers() as servers:
        # The other way round every other time, so that no side always follows the same one.
        schedule = [
            (number, cell)
            for number in range(rounds + 1)
            for cell in (cells if number % 2 else reversed(cells))
        ]
        with click.progressbar(schedule, label="Comparing transports") as progress:
            for number, (placement, shape, model) in progress:
                place(servers[model], placement)
                sample = await _sample(
                    servers[model], shape, seconds if number else WARM_UP_SECONDS
                )
                if number:
                    samples[placement, shape, model].append(sample)
    return samples


@asynccontextmanager
async def _servers() -> AsyncIterator[dict[echo.Model, ServerProcess]]:
    async with AsyncExitStack() as stack:
        yield {
            model: await stack.enter_async_context(
                echo_server(model, request_bytes=REQUEST_BYTES, response_bytes=RESPONSE_BYTES)
            )
            for model in echo.Model
        }


async def _sample(server: ServerProcess, shape: Shape, seconds: float) -> Sample:
    requests = closed.for_seconds(bytes(REQUEST_BYTES * shape.batch), seconds)
    drive = closed.stream_messages if shape.streamed else closed.unary_calls
    method = echo.STREAM if shape.streamed else echo.UNARY
    lengths: list[int] = []
    async with open_channel(server.address, options=closed.CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
        calls = drive(
            channel,
            method,
            requests,
            in_flight=shape.in_flight,
            received=lambda answer: lengths.append(len(answer)),
        )
        return await closed.measured(server, calls, lambda: sum(lengths) // RESPONSE_BYTES)


def render(samples: Mapping[Cell, Sequence[Sample]], placement: str) -> str:
    """The table of one placement."""

    def row(shape: Shape, model: echo.Model) -> list[str]:
        taken = samples[placement, shape, model]
        micros = [sample.server_micros for sample in taken]
        base = [sample.server_micros for sample in samples[placement, shape, BASE]]
        return [
            f"{shape.name}: {model}",
            Summary.of(micros).show(1),
            Summary.of_ratios(micros, base).show(2),
            Summary.of(sample.calls_per_second for sample in taken).show(),
            f"{median(sample.server_load for sample in taken):.2f}",
            f"{median(sample.client_micros for sample in taken):.1f}",
        ]

    head = [f"server and client {placement}", *HEAD]
    return table(head, (row(shape, model) for shape in SHAPES for model in echo.Model))


if __name__ == "__main__":
    main()
