"""``docs/reference/conformance.md``, from what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from conformance.baseline import Baseline, Deviation, Runs
from conformance.suite import Scenario, Verdict

FILE: Final = Path("docs/reference/conformance.md")

_HEAD = """\
# Conformance

<!-- Written by `python -m conformance --write`. -->

`@modelcontextprotocol/conformance` {version}, all server scenarios that it has for a revision,
against the adapter: `SessionGate`, its transport and a real authsvc, around a server of the
official SDK that has what the suite asks for ([`conformance/`](../../conformance)). The suite has
no option for a token, so it runs twice:

- **anonymous**: an adapter where nothing needs a token;
- **with a token**: an adapter where calls need one, as they do by default, behind a proxy that adds
  a new token to every request. One session sees its token change all along.

In brackets is how many checks of a scenario passed. `http-header-validation` pads `Mcp-Name` with
spaces, among other things; no revision scores it yet.

`make conformance` runs it again, and fails when anything comes out otherwise than
[`conformance/expected.toml`](../../conformance/expected.toml) says, or when this page is stale.
What the suite has no scenario for, a resource server's duties before all, is tested here:
[requirements.md](../requirements.md).

| revision | configuration | scored scenarios that pass | not scored that pass |
|---|---|---|---|
"""


def render(runs: Runs, baseline: Baseline, version: str) -> str:
    """The page."""
    return "".join(
        [
            _HEAD.format(version=version),
            *_summary(runs),
            *(
                section
                for revision in dict.fromkeys(revision for revision, _ in runs)
                for section in _revision(revision, runs, baseline)
            ),
        ]
    )


def _summary(runs: Runs) -> Iterator[str]:
    for (revision, configuration), scenarios in runs.items():
        scored = [scenario for scenario in scenarios if not scenario.unscored]
        unscored = [scenario for scenario in scenarios if scenario.unscored]
        yield f"| {revision} | {configuration} | {_passing(scored)} | {_passing(unscored)} |\n"


def _passing(scenarios: Iterable[Scenario]) -> str:
    verdicts = [scenario.verdict for scenario in scenarios]
    return f"{verdicts.count(Verdict.PASSES)} of {len(verdicts)}"


def _revision(revision: str, runs: Runs, baseline: Baseline) -> Iterator[str]:
    configurations = [configuration for known, configuration in runs if known == revision]
    yield f"\n## {revision}\n\n| scenario | scored | {' | '.join(configurations)} |\n"
    yield "|---|---|" + "---|" * len(configurations) + "\n"
    columns = [runs[revision, configuration] for configuration in configurations]
    for row in zip(*columns, strict=True):
        scored = f"no: {row[0].unscored}" if row[0].unscored else "yes"
        yield f"| `{row[0].name}` | {scored} | {' | '.join(map(_cell, row))} |\n"
    for deviation in baseline.deviations:
        if deviation.revision == revision:
            yield from _reason(deviation)


def _cell(scenario: Scenario) -> str:
    if scenario.verdict is Verdict.PASSES:
        return f"passes ({scenario.passed})"
    return f"**{scenario.verdict.value}**"


def _reason(deviation: Deviation) -> Iterator[str]:
    names = ", ".join(f"`{name}`" for name in deviation.scenarios)
    where = " and ".join(deviation.configurations)
    yield f"\n{names} ({where}): **{deviation.verdict.value}**. Whose fault: {deviation.fault}.\n\n"
    yield "".join(f"> {line}\n" for line in deviation.why.splitlines())
