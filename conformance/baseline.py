"""The expected results of the suite, and how actual ones differ."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.suite import Scenario, Verdict

FILE: Final = Path(__file__).with_name("expected.toml")

Runs = Mapping[tuple[str, str], list[Scenario]]
"""Results by revision and configuration."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Scenarios that are expected not to pass.

    Attributes:
        revision: of MCP.
        configurations: those that it applies to.
        scenarios: their names.
        verdict: the expected result.
        fault: the party at fault.
        why: in full sentences.
    """

    revision: str
    configurations: tuple[str, ...]
    scenarios: tuple[str, ...]
    verdict: Verdict
    fault: str
    why: str

    def covers(self, revision: str, configuration: str, scenario: str) -> bool:
        """Whether it applies to this one."""
        return (
            revision == self.revision
            and configuration in self.configurations
            and scenario in self.scenarios
        )


@dataclass(frozen=True, slots=True)
class Baseline:
    """The content of ``expected.toml``.

    Attributes:
        counts: scenarios of each revision, so that a suite that runs fewer is noticed.
        deviations: the scenarios that are not expected to pass.
    """

    counts: Mapping[str, int]
    deviations: tuple[Deviation, ...]

    @classmethod
    def load(cls, file: Path = FILE) -> Baseline:
        """Read it."""
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        deviations = (
            Deviation(
                revision=item["revision"],
                configurations=tuple(item["configurations"]),
                scenarios=tuple(item["scenarios"]),
                verdict=Verdict(item["verdict"]),
                fault=item["fault"],
                why=item["why"].strip(),
            )
            for item in values["deviations"]
        )
        return cls(values["scenarios"], tuple(deviations))

    def expected(self, revision: str, configuration: str, scenario: str) -> Verdict:
        """The expected verdict of a scenario."""
        for deviation in self.deviations:
            if deviation.covers(revision, configuration, scenario):
                return deviation.verdict
        return Verdict.PASSES

    def differences(self, runs: Runs) -> Iterator[str]:
        """Results that differ from the baseline; better ones too, as the baseline is stale then."""
        for (revision, configuration), scenarios in runs.items():
            where = f"{revision}, {configuration}"
            if len(scenarios) != self.counts[revision]:
                yield f"{where}: {len(scenarios)} scenarios, not {self.counts[revision]}"
            for scenario in scenarios:
                expected = self.expected(revision, configuration, scenario.name)
                if scenario.verdict is not expected:
                    complaints = "".join(f"\n    {complaint}" for complaint in scenario.complaints)
                    yield (
                        f"{where}: {scenario.name} {scenario.verdict.value}, "
                        f"expected: {expected.value}{complaints}"
                    )
