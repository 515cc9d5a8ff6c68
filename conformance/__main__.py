"""``python -m conformance``: run the suite, compare with what is expected, check the page."""

from __future__ import annotations

import logging
import warnings

import anyio
import click
from mcp.shared.exceptions import MCPDeprecationWarning

from conformance import report, suite
from conformance.baseline import Baseline, Runs
from conformance.stage import CONFIGURATIONS, stage
from conformance.suite import REVISIONS, Scenario, SuiteError, Verdict


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write", is_flag=True, help=f"Write {report.FILE}.")
def main(write: bool) -> None:
    """Run MCP's conformance suite against the adapter, for every revision and configuration.

    Fails if a result differs from conformance/expected.toml, or from the page in docs/.
    """
    logging.disable(logging.CRITICAL)  # the suite provokes errors
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # and uses what 2025-11-25 still had
    try:
        suite.install()
        runs = anyio.run(_run_all)
    except SuiteError as error:
        raise click.ClickException(str(error)) from None
    baseline = Baseline.load()
    page = report.render(runs, baseline, suite.version())
    if write:
        report.FILE.write_text(page, encoding="utf-8")
    if differences := list(baseline.differences(runs)):
        raise click.ClickException("not as expected:\n  " + "\n  ".join(differences))
    if report.FILE.read_text(encoding="utf-8") != page:
        raise click.ClickException(f"{report.FILE} is stale: python -m conformance --write")


async def _run_all() -> Runs:
    runs: dict[tuple[str, str], list[Scenario]] = {}
    for revision in REVISIONS:
        for configuration in CONFIGURATIONS:
            async with stage(configuration) as url:
                scenarios = await suite.run(url, revision)
            runs[revision, configuration] = scenarios
            passed = sum(scenario.verdict is Verdict.PASSES for scenario in scenarios)
            click.echo(f"{revision}, {configuration}: {passed} of {len(scenarios)} pass")
    return runs


if __name__ == "__main__":
    main()
