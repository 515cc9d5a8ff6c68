"""``python -m bench``: what a resolve costs, beside a raw echo of the same bytes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from bench.figures import machine, write_report
from bench.population import SUBJECTS
from bench.processes import PLACEMENTS, ServerError
from bench.resolves import Plan, WrongAnswerError, compare, render_growth, render_resolves

FEW_SESSIONS = 1_000
CALLS = 1_500
QUICK_ROUNDS = 7
THOROUGH_ROUNDS = 31


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--quick/--thorough",
    default=True,
    show_default=True,
    help=f"{QUICK_ROUNDS} rounds, in under a minute; or {THOROUGH_ROUNDS}, in under three.",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=CALLS + len(SUBJECTS)),
    default=100_000,
    show_default=True,
    help=f"Sessions in the large store; the small one holds {FEW_SESSIONS:,}.",
)
@click.option(
    "--placement",
    type=click.Choice(PLACEMENTS),
    default=PLACEMENTS[0],
    show_default=True,
    help="apart: the server has one CPU, the client the others. free: where the system puts them.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("var/bench/resolves.json"),
    show_default=True,
    help="Where every sample goes, as JSON.",
)
def main(quick: bool, sessions: int, placement: str, output: Path) -> None:
    """Measure resolves of a real authsvc, in a process of its own, over loopback.

    Row 8 of the decision table is the hot path, a session's own token again. Row 10 brings a new
    token each time: a signature is checked and the record written to disk. Beside them runs an echo
    of row 8's bytes on the same kind of gRPC server: what no resolve can do without. All sides
    alternate in one run, and each ratio is taken within its round. A closed loop keeps 32 calls in
    flight, so this measures cost and throughput, not latency.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    rounds = QUICK_ROUNDS if quick else THOROUGH_ROUNDS
    plan = Plan(rounds, CALLS, few=FEW_SESSIONS, many=sessions, placement=placement)
    start = time.monotonic()

    def step(text: str) -> None:
        click.echo(f"{time.monotonic() - start:5.1f} s  {text}", err=True)

    try:
        # Beside the output, for a disk like the service's own: /tmp may be memory.
        with TemporaryDirectory(prefix="run-", dir=output.parent) as folder:
            results = uvloop.run(compare(plan, Path(folder), step))
    except (ServerError, WrongAnswerError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"\n{render_resolves(results)}\n\n{render_growth(results)}\n")
    click.echo("Medians (lowest-highest). " + ", ".join(machine().values()))
    write_report(output, asdict(plan), results.resolves, lookup_micros=results.lookups)
    click.echo(f"Every sample: {output}")


if __name__ == "__main__":
    main()
