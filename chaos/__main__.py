"""``python -m chaos``: injects faults into three replicas under load, and checks the guarantees."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click
import uvloop

from chaos import report
from chaos.faults import FAULTS, Fault, soaking
from chaos.program import ProgramError
from chaos.run import Plan, Result, run
from chaos.valkey import ValkeyError

LOG_FORMAT = "%(asctime)s %(name)s: %(message)s"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([fault.name for fault in FAULTS]),
    help="Inject this fault only; can be repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1, max=10),
    default=4.0,
    show_default=True,
    help="Duration of each fault.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=10),
    default=200.0,
    show_default=True,
    help="Calls per second of the load.",
)
@click.option(
    "--soak",
    type=click.FloatRange(min=1),
    metavar="MINUTES",
    help="Inject no fault, run for MINUTES and measure the replicas' memory.",
)
@click.option("--seed", default=1, show_default=True, help="Of the mix of calls.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("var/chaos/report.json"),
    show_default=True,
    help="The JSON report.",
)
def main(
    names: tuple[str, ...],
    seconds: float,
    rate: float,
    soak: float | None,
    seed: int,
    output: Path,
) -> None:
    """Inject faults into authsvc under load, and check the guarantees.

    Each run has a Valkey and three replicas of its own. The exit code is 1 if one is broken.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=output.with_name("clients.log"), filemode="w", format=LOG_FORMAT)
    plan = Plan(seconds, rate, seed)
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    try:
        results = _run_all([soaking(soak)] if soak else faults, plan, output.parent.resolve())
    except* (ProgramError, ValkeyError, TimeoutError) as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from None
    click.echo(f"\n{report.summary(results)}\n")
    report.write(output, results, asdict(plan))
    click.echo(f"All figures: {output}")
    sys.exit(0 if all(result.passed for result in results) else 1)


def _run_all(faults: Iterable[Fault], plan: Plan, folder: Path) -> list[Result]:
    start = time.monotonic()
    results = []

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - start:6.1f} s  {text}", err=True)

    for fault in faults:
        tell(f"{fault.name}: {fault.about}")
        result = uvloop.run(run(fault, plan, folder, lambda text: tell(f"    {text}")))
        for line in (*report.memory(result), *report.findings(result)):
            tell(f"    {line}")
        results.append(result)
    return results


if __name__ == "__main__":
    main()
