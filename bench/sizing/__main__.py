"""``python -m bench.sizing``: the table of docs/sizing.md, from measured figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from bench.figures import machine
from bench.figures import table as rendered
from bench.generator import LoadError, WrongAnswerError
from bench.processes import ServerError
from bench.sizing.formulas import Assumptions, derived, table
from bench.sizing.inputs import MEASURED, Inputs
from bench.sizing.measure import measured
from chaos.valkey.server import ValkeyError

USERS = (1_000, 100_000, 10_000_000)
NAMES = [it.name for it in fields(Assumptions)]


def _assumed(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, float]:
    assumed = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in NAMES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(NAMES)}")
        try:
            assumed[name] = float(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number") from None
    return assumed


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: python -m bench.sizing --assume token_seconds=900 --users 50000",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, dir_okay=False),
    default=MEASURED,
    show_default="bench/sizing/inputs.json",
    help="The measured figures.",
)
@click.option("--users", multiple=True, type=click.IntRange(min=1), help="Columns of the table.")
@click.option(
    "--assume",
    multiple=True,
    callback=_assumed,
    metavar="NAME=VALUE",
    help=f"Another assumption: {', '.join(NAMES)}.",
)
@click.option("--measure", is_flag=True, help="Measure on this machine first, in a minute.")
@click.option(
    "--peers",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With --measure: what `python -m bench.peers` wrote (var/bench/peers.json).",
)
def main(
    inputs: Path,
    users: tuple[int, ...],
    assume: dict[str, float],
    measure: bool,
    peers: Path | None,
) -> None:
    """Say how much hardware so many users take.

    Every figure is a formula on measured ones; docs/sizing.md explains both.
    """
    if measure:
        _measure(inputs, peers)
    try:
        known = Inputs.load(inputs)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    for text in tables(known, replace(Assumptions(), **assume), users or USERS):
        click.echo(f"{text}\n")


def tables(inputs: Inputs, assumptions: Assumptions, users: Sequence[int]) -> list[str]:
    """The tables of docs/sizing.md: what was measured, what follows for one, and for all users."""
    rows = table(inputs, assumptions, users)
    measured_rows = [[text, f"`{name}`", shown(value)] for name, text, value in inputs.described()]
    return [
        rendered(["measured", "input", ""], measured_rows),
        rendered(["derived", ""], [list(it) for it in derived(inputs, assumptions).items()]),
        rendered(
            ["users", *(f"{number:,}" for number in users)],
            [[name, *values] for name, values in rows.items()],
        ),
    ]


def shown(value: float) -> str:
    """A measured figure; all have three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _measure(inputs: Path, peers: Path | None) -> None:
    if peers is None:
        raise click.UsageError("--measure needs --peers: run `python -m bench.peers` first")
    try:
        calls = json.loads(peers.read_text(encoding="utf-8"))
        with TemporaryDirectory(prefix="sizing-", dir=inputs.parent) as folder:
            taken = uvloop.run(
                measured(Path(folder), calls, lambda text: click.echo(text, err=True))
            )
    except (ServerError, ValkeyError, LoadError, WrongAnswerError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    taken.save(inputs, machine())


if __name__ == "__main__":
    main()
