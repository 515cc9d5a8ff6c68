"""``python -m bench``: everything that is measured here, and the report of it."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from bench import quiet, report
from bench.figures import machine
from bench.generator import LoadError, WrongAnswerError
from bench.plots import draw
from bench.processes import ServerError
from bench.section import Options, Section, exit_status

SECTIONS = {
    "rows": "bench.sections.rows",
    "credentials": "bench.sections.credentials",
    "checks": "bench.sections.checks",
    "refresh": "bench.sections.refresh",
    "latency": "bench.sections.latency",
    "workers": "bench.sections.workers",
    "growth": "bench.sections.growth",
    "refused": "bench.sections.refused",
    "independent": "bench.sections.independent",
    "start": "bench.sections.start",
    "gate": "bench.sections.gate",
    "anonymous": "bench.sections.anonymous",
    "audit": "bench.sections.audit",
    "signals": "bench.sections.signals",
    "peers": "bench.peers.section",
}
"""Modules with ``async def run(options: Options) -> Section``, in the report's order."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, help="Samples of each side.")
@click.option(
    "--sessions",
    type=click.IntRange(min=10_000),
    default=1_000_000,
    show_default=True,
    help="Sessions in the large store.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(SECTIONS)),
    help="These sections alone.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/bench"),
    show_default=True,
    help="Where report.html and report.json go.",
)
def main(rounds: int, sessions: int, only: tuple[str, ...], output: Path) -> None:
    """Measure a real authsvc, in processes of its own, over loopback, in under ten minutes.

    Every comparison alternates its sides in one run, and takes each ratio within its round.

    Exits 1 when a goal was missed, and 3 when none was and one has no verdict: the machine was busy
    with something else, or the load generator was late.
    """
    output.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()

    def step(text: str) -> None:
        click.echo(f"{time.monotonic() - start:6.1f} s  {text}", err=True)

    chosen = [name for name in SECTIONS if not only or name in only]
    try:
        # Beside the output, for a disk like the service's own: /tmp may be memory.
        with TemporaryDirectory(prefix="run-", dir=output) as folder:
            sections = uvloop.run(_sections(chosen, Options(Path(folder), rounds, step, sessions)))
    except (ServerError, LoadError, WrongAnswerError, ConnectionError) as error:
        raise click.ClickException(str(error)) from None
    settings = {"rounds": rounds, "sessions": sessions, "sections": chosen}
    report.write(output, sections, settings, draw)
    click.echo(f"\n{report.as_text(sections)}\n")
    click.echo("Medians (quartiles). " + ", ".join(machine().values()))
    click.echo(f"The report: {output / 'report.html'}; every sample: {output / 'report.json'}")
    sys.exit(exit_status(sections))


async def _sections(names: list[str], options: Options) -> list[Section]:
    sections = []
    for name in names:
        options.step(f"== {name}")
        with quiet.watched() as watch:
            section = await importlib.import_module(SECTIONS[name]).run(options)
        sections.append(replace(section, doubts=watch.doubts))
    return sections


if __name__ == "__main__":
    main()
