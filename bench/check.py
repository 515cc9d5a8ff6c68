"""``python -m bench.check``: have ratios of costs become worse than those recorded?

Ratios alone are compared, each taken within its round in one run, so that another machine, or a
busy one, says the same as the one that ``bench/baseline.json`` was recorded on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from bench import echo
from bench.calls import STREAM, UNARY
from bench.figures import Summary, table
from bench.generator import LoadError, Outcome, WrongAnswerError
from bench.population import Population, fill
from bench.processes import ServerError
from bench.stage import Side, alternate, authsvc_stage, echo_stage

BASELINE = Path(__file__).parent / "baseline.json"

ROUNDS = 9
SESSIONS = 2_000

SIDES = {
    "row 8, unary": ("hot", UNARY, 2_000),
    "row 8, stream": ("hot", STREAM, 6_000),
    "row 11, unary": ("earlier", UNARY, 1_000),
    "row 13, unary": ("tokenless", UNARY, 1_000),
    "row 7, unary": ("refused", UNARY, 400),
    "row 7, stream": ("refused", STREAM, 400),
    "row 10, unary": ("refresh", UNARY, 400),
    "row 10, stream": ("refresh", STREAM, 400),
    "row 2, unary": ("create", UNARY, 400),
}
"""What is measured, beside an echo: kind, RPC and calls in a sample."""

ECHO_CALLS = 2_000

LEAST_TOLERANCE = 0.20
"""A ratio may always be worse by so much: rounds stray that far where others use the CPUs."""

SPREADS = 2.0
"""And by so many times what lay between the quartiles when it was recorded,"""

MOST_TOLERANCE = 0.50
"""but never by more than this."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--record", is_flag=True, help=f"Write {BASELINE.name} instead of comparing with it.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/bench"),
    show_default=True,
    help="Where databases and logs are while it runs.",
)
def main(record: bool, folder: Path) -> None:
    """Compare CPU a resolve, in units of a raw echo's, with what was recorded.

    Fails when a ratio is worse by more than its tolerance.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix="check-", dir=folder) as inside:
            measured = uvloop.run(ratios(Path(inside)))
    except (ServerError, LoadError, WrongAnswerError) as error:
        raise click.ClickException(str(error)) from None
    if record:
        recorded = {name: entry(ratio) for name, ratio in measured.items()}
        BASELINE.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    baseline: dict[str, dict[str, float]] = json.loads(BASELINE.read_text(encoding="utf-8"))
    click.echo(render(measured, baseline))
    if worse := regressions(measured, baseline):
        click.echo(f"\nWorse than recorded: {', '.join(worse)}", err=True)
        sys.exit(1)


async def ratios(folder: Path) -> dict[str, Summary]:
    """CPU on the server of a resolve in units of a raw echo's, by what is resolved.

    Raises:
        bench.processes.ServerError: a server did not start.
        WrongAnswerError: an answer was not what its row says.
    """
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    async with (
        authsvc_stage(folder, population) as ours,
        echo_stage(population, ours.clients) as raw,
    ):
        await ours.warm_up()

        async def base() -> Outcome:
            return await raw.load(echo.UNARY, calls=ECHO_CALLS)

        def side(kind: str, method: str, calls: int) -> Side[Outcome]:
            return lambda: ours.load(method, mix={kind: 1.0}, calls=calls)

        sides = {"echo": base, **{name: side(*what) for name, what in SIDES.items()}}
        taken = await alternate(ROUNDS, sides, lambda text: click.echo(text, err=True))
    micros = {
        name: [outcome.sample.server_micros for outcome in outcomes]
        for name, outcomes in taken.items()
    }
    return {name: Summary.of_ratios(micros[name], micros["echo"]) for name in SIDES}


def entry(ratio: Summary) -> dict[str, float]:
    """What is recorded of a ratio: the median, and by how much more it may be exceeded."""
    spread = SPREADS * (ratio.high - ratio.low) / ratio.median
    tolerance = min(max(LEAST_TOLERANCE, spread), MOST_TOLERANCE)
    return {"ratio": round(ratio.median, 3), "tolerance": round(tolerance, 2)}


def limit(recorded: dict[str, float]) -> float:
    """The most that a ratio may be."""
    return recorded["ratio"] * (1 + recorded["tolerance"])


def regressions(measured: dict[str, Summary], baseline: dict[str, dict[str, float]]) -> list[str]:
    """Names of the ratios that are worse than they may be. One that was never recorded is."""
    return [
        name
        for name, ratio in measured.items()
        if name not in baseline or ratio.median > limit(baseline[name])
    ]


def render(measured: dict[str, Summary], baseline: dict[str, dict[str, float]]) -> str:
    """The table."""
    worse = regressions(measured, baseline)
    rows = []
    for name, ratio in measured.items():
        recorded = baseline.get(name)
        rows.append(
            [
                name,
                f"{recorded['ratio']:.2f}" if recorded else "-",
                f"{limit(recorded):.2f}" if recorded else "-",
                ratio.show(2),
                "WORSE" if name in worse else "ok",
            ]
        )
    return table(["CPU, in raw echos", "recorded", "at most", "now", ""], rows)


if __name__ == "__main__":
    main()
