"""``python -m bench.load``: put a load on an authsvc that runs somewhere on this machine."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict
from pathlib import Path

import click
import uvloop

from bench.calls import STREAM, UNARY
from bench.client import Order
from bench.figures import machine, table
from bench.generator import Clients, LoadError, Outcome, WrongAnswerError, clients
from bench.mixes import KINDS
from bench.population import LEAST_TOKEN_BYTES, TOKEN_BYTES, Population

METHODS = {"unary": UNARY, "stream": STREAM}
PERCENTILES = (50, 90, 99, 99.9, 100)

LONGEST_SECONDS = 240.0
"""A server ends a connection after some 270 seconds, as it is configured by default."""


def _local(context: click.Context, parameter: click.Parameter, target: str) -> str:
    """Refuse to load what is not on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    if target.startswith("unix:") or host == "localhost":
        return target
    try:
        if ipaddress.ip_address(host).is_loopback:
            return target
    except ValueError:
        pass
    raise click.BadParameter("only 127.0.0.1:PORT, [::1]:PORT, localhost:PORT or unix:PATH")


def _mix(context: click.Context, parameter: click.Parameter, text: str) -> dict[str, float]:
    """``hot=8,refresh=1`` as weights by kind."""
    mix = {}
    for part in text.split(","):
        kind, _, weight = part.partition("=")
        if kind not in KINDS:
            raise click.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}")
        try:
            mix[kind] = float(weight or 1)
        except ValueError:
            raise click.BadParameter(f"{weight!r} is no number") from None
    return mix


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--target", required=True, callback=_local, help="HOST:PORT or unix:PATH, loopback.")
@click.option("--issuer", required=True, help="Claim iss: a development issuer that it trusts.")
@click.option(
    "--secret-file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="That issuer's HS256 secret, to sign tokens with.",
)
@click.option("--resource", required=True, help="Claim aud, one of its resources.")
@click.option("--mode", type=click.Choice(list(METHODS)), default="stream", show_default=True)
@click.option(
    "--mix",
    default="hot",
    callback=_mix,
    show_default=True,
    help="Kinds of request by weight, such as hot=90,refresh=5,refused=5. Rows of the decision "
    "table: " + ", ".join(f"{name} {kind.row}" for name, kind in KINDS.items()) + ".",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1),
    default=500.0,
    show_default=True,
    help="Requests a second, all processes together.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, LONGEST_SECONDS),
    default=10.0,
    show_default=True,
    help="For how long.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Client processes.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Connections, all processes together.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    help="Sessions that are created first, and then asked about.",
)
@click.option(
    "--token-bytes",
    type=click.IntRange(LEAST_TOKEN_BYTES, 16_384),
    default=TOKEN_BYTES,
    show_default=True,
    help="Length of a token, about.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the figures go, as JSON.",
)
def main(
    target: str,
    issuer: str,
    secret_file: Path,
    resource: str,
    mode: str,
    mix: dict[str, float],
    rate: float,
    seconds: float,
    processes: int,
    connections: int,
    sessions: int,
    token_bytes: int,
    output: Path | None,
) -> None:
    """Load a running authsvc, over loopback alone, and say what its latencies were.

    An open loop: requests are due at random times, however slow the answers are, and each latency
    counts from when the request was due. Sessions are new ones, and are left behind.

    Fails when answers were wrong, requests failed, or the generator itself was too slow.
    """
    population = Population.of(
        sessions,
        secret=secret_file.read_text(encoding="utf-8").strip(),
        issuer=issuer,
        resource=resource,
        token_bytes=token_bytes,
    )
    order = Order(
        target,
        METHODS[mode],
        population.to_json(),
        mix,
        connections=connections,
        rate=rate,
        seconds=seconds,
        spread=sessions,
    )
    try:
        outcome = uvloop.run(_load(order, sessions, processes))
    except (LoadError, WrongAnswerError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(render(outcome, seconds))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(figures(outcome, order), indent=1) + "\n", encoding="utf-8")
    if outcome.failures:
        raise click.ClickException(f"{outcome.failures} requests failed: {dict(outcome.failed)}")
    if outcome.doubts:
        raise click.ClickException("the generator lagged: " + "; ".join(outcome.doubts))


async def _load(order: Order, sessions: int, processes: int) -> Outcome:
    async with clients(processes) as asking:
        await _create(asking, order, sessions)
        return await asking.load(order)


async def _create(asking: Clients, order: Order, sessions: int) -> None:
    """Create the sessions, a part by each process.

    Raises:
        LoadError: some could not be created.
    """
    each = -(-sessions // len(asking.pids))
    creation = Order(
        order.target,
        STREAM,
        order.population,
        {"seed": 1.0},
        calls=each * len(asking.pids),
        in_flight=64 * len(asking.pids),
    )
    created = await asking.load(creation)
    if created.failures:
        raise LoadError(f"{created.failures} of {sessions} sessions could not be created")


def render(outcome: Outcome, seconds: float) -> str:
    """The figures as a table, and what there is to doubt."""
    rows = [
        [
            f"{kind} (row {KINDS[kind].row})",
            f"{times.get_total_count() / seconds:,.0f}",
            *(f"{outcome.micros(at, kind) / 1000:,.2f}" for at in PERCENTILES),
        ]
        for kind, times in outcome.latencies.items()
    ]
    head = ["", "answers/s", *(f"p{at}, ms" if at < 100 else "most, ms" for at in PERCENTILES)]
    return "\n".join(
        (
            table(head, rows),
            f"Requests were asked {outcome.lag_micros / 1000:.2f} ms late at p99.",
            f"The busiest client process took {outcome.busiest_client:.0%} of a CPU.",
        )
    )


def figures(outcome: Outcome, order: Order) -> dict[str, object]:
    """The same for JSON, with the histograms in HdrHistogram's own encoding."""
    return {
        "machine": machine(),
        "mix": dict(order.mix),
        "rate": order.rate,
        "seconds": order.seconds,
        "sample": asdict(outcome.sample),
        "failed": dict(outcome.failed),
        "lag_p99_micros": outcome.lag_micros,
        "busiest_client": outcome.busiest_client,
        "histograms": {
            kind: times.encode().decode("ascii") for kind, times in outcome.latencies.items()
        },
    }


if __name__ == "__main__":
    main()
