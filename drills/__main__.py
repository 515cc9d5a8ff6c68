"""``python -m drills``: practises the runbooks under load."""

from __future__ import annotations

import itertools
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import uvloop

from authsvc.domain.errors import AuthError
from chaos.program import ProgramError
from chaos.valkey import ValkeyError
from drills import report
from drills.catalogue import DRILLS
from drills.drill import Drill
from drills.errors import DrillError
from drills.report import Result
from drills.stage import Stage, staged
from drills.tally import Tally

BEFORE_SECONDS = 1.5
AFTER_SECONDS = 1.5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice([drill.name for drill in DRILLS]))
@click.option("--list", "lists", is_flag=True, help="List the drills, and do none.")
@click.option(
    "--short",
    "is_short",
    is_flag=True,
    help="The drills of CI, with waits as short as they can be, on as few installations.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/drill"),
    show_default=True,
    help="Configurations and logs of each drill.",
)
def main(names: tuple[str, ...], lists: bool, is_short: bool, folder: Path) -> None:
    """Practise runbooks under load; without NAMES all of them.

    Prints failed calls of all calls, for each step. The exit code is 1 if a drill missed its bar.
    """
    chosen = [drill for drill in DRILLS if drill.name in names or not names]
    if is_short and not names:
        chosen = [drill for drill in chosen if drill.is_short]
    if lists:
        width = max(len(drill.name) for drill in chosen)
        click.echo("\n".join(f"{drill.name:<{width}}  {drill.about}" for drill in chosen))
        return
    logging.disable()
    start = time.monotonic()
    results = []
    try:
        for group in _stages(chosen, is_short=is_short):
            results += uvloop.run(_do(group, folder.resolve(), is_short=is_short))
    except* (DrillError, ProgramError, ValkeyError, OSError) as errors:
        raise click.ClickException("\n".join(map(str, errors.exceptions))) from None
    click.echo(f"\n{report.of_drills(results)}\n\n{time.monotonic() - start:.0f} s. Logs: {folder}")
    sys.exit(0 if all(result.passed for result in results) else 1)


def _stages(drills: Iterable[Drill], *, is_short: bool) -> Iterator[list[Drill]]:
    """Drills that share an installation: neighbours with the same store, in the short form."""
    if not is_short:
        yield from ([drill] for drill in drills)
        return
    for _, group in itertools.groupby(drills, key=lambda drill: drill.store):
        yield list(group)


async def _do(drills: list[Drill], folder: Path, *, is_short: bool) -> list[Result]:
    here = folder / (drills[0].name if len(drills) == 1 else f"short-{drills[0].store}")
    shutil.rmtree(here, ignore_errors=True)
    start = time.monotonic()
    async with staged(here, drills[0].store, is_short=is_short) as stage:
        click.echo(f"The installation was ready after {time.monotonic() - start:.1f} s: {here}")
        async with stage.load.flowing():
            return [await _practised(drill, stage) for drill in drills]


async def _practised(drill: Drill, stage: Stage) -> Result:
    click.echo(f"\n{drill.name}: {drill.about}")
    stage.tally, stage.missed, stage.notes = Tally(), [], []
    stage.step("before")
    await stage.hold(BEFORE_SECONDS, short=0.5)
    try:
        await drill.steps(stage)
    except (AuthError, DrillError, ProgramError, ValkeyError) as error:
        stage.missed.append(str(error))
    stage.step("after")
    await stage.hold(AFTER_SECONDS, short=0.5)
    stage.tally.close()
    await _alerts(drill, stage)
    result = Result(drill, stage.tally, tuple(stage.missed), tuple(stage.notes))
    click.echo(report.of_steps(result))
    return result


async def _alerts(drill: Drill, stage: Stage) -> None:
    """Report which alerts have fired, and in which step."""
    if stage.watch is None:
        return
    # Steps are timed by the monotonic clock.
    offset = time.time() - time.monotonic()
    steps = stage.tally.steps
    fired = await stage.watch.fired(steps[0].start + offset)
    for alert in fired:
        step = [it for it in steps if it.start + offset <= alert.time][-1]
        seconds = alert.time - step.start - offset
        stage.note(f"{alert.name} fired {seconds:.0f} s after the beginning of: {step.text}")
    silent = drill.alerts - {alert.name for alert in fired}
    stage.check(f"{', '.join(sorted(silent))} fired", not silent)


if __name__ == "__main__":
    main()
