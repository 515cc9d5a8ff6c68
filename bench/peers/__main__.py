"""``python -m bench.peers``: the peers alone; figures and answers go to var/bench/peers.json."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from bench import quiet, report
from bench.figures import machine, table
from bench.peers.section import answers_table, run
from bench.processes import ServerError
from bench.section import Options, Section, exit_status


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, help="Samples of each side.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("var/bench/peers.json"),
    show_default=True,
    help="Where every sample and answer goes, as JSON.",
)
def main(rounds: int, output: Path) -> None:
    """Compare what people use in place of authsvc with it, by CPU time and by what it answers.

    Exits 1 when a goal was missed, and 3 when none was and the machine was busy: no verdict.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=output.parent) as folder:
        options = Options(Path(folder), rounds, lambda text: click.echo(text, err=True))
        try:
            section = _measured(options)
        except (ServerError, ConnectionError) as error:
            raise click.ClickException(str(error)) from None
    told = section.samples["answers"]
    click.echo(f"{section.title}\n\n{table(section.head, section.rows)}\n")
    click.echo(f"{table(*answers_table(told))}\n")  # type: ignore[arg-type] # samples are anything that JSON can hold
    click.echo(table(report.GOALS_HEAD, report.goal_rows([section])))
    click.echo("\n".join(["", *section.notes, "", f"Medians (quartiles). {machine()['cpus']}"]))
    output.write_text(
        json.dumps({"machine": machine(), **section.samples}, indent=1) + "\n", encoding="utf-8"
    )
    sys.exit(exit_status([section]))


def _measured(options: Options) -> Section:
    with quiet.watched() as watch:
        section = uvloop.run(run(options))
    return replace(section, doubts=watch.doubts)


main()
