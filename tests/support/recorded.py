"""Series out of scrapes of running programs: what they saw goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.promtool import Line, gauge

SCRAPE_SECONDS = 15.0
_COUNTERS = re.compile(r"\w+_(total|bucket|count|sum)")
_TIMES = re.compile(r"(authsvc|mcp_adapter)_\w+_(timestamp|time)_seconds")


@dataclass(frozen=True, slots=True)
class Phase:
    """What two scrapes saw, and how long it goes on.

    Attributes:
        before: what was scraped first.
        after: what was scraped then; empty where nothing answered. What was counted between the
            two is counted between any two scrapes of the phase; gauges are as they are here.
        seconds: how long it goes on.
        clock: seconds since the epoch at ``after``.
    """

    before: str
    after: str
    seconds: float
    clock: float


def recorded(job: str, *phases: Phase) -> dict[str, Line]:
    """The series of one instance, as Prometheus gets them while the phases last, in turn.

    Promtool begins at the epoch: times in metrics move with it.
    """
    samples = [(_samples(phase.before), _samples(phase.after)) for phase in phases]
    selectors = {it for _, after in samples for it in after}
    reachable = gauge(*((phase.seconds, float(bool(phase.after))) for phase in phases))
    return {
        _labelled("up{}", job): reachable,
        **{_labelled(it, job): _Series(it, phases, samples).at for it in sorted(selectors)},
    }


@dataclass(frozen=True, slots=True)
class _Series:
    selector: str
    phases: Sequence[Phase]
    samples: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]

    def at(self, now: float) -> float | None:
        """The sample at a time; None where there is none."""
        begin, counted = 0.0, 0.0
        for phase, (before, after) in zip(self.phases, self.samples, strict=True):
            value = after.get(self.selector)
            elapsed = min(now - begin, phase.seconds - 1)
            if value is not None:
                counted += (value - before.get(self.selector, 0.0)) * (
                    elapsed // SCRAPE_SECONDS + 1
                )
            if now - begin < phase.seconds or phase is self.phases[-1]:
                break
            begin += phase.seconds
        if value is None or _COUNTERS.match(self.selector):
            return None if value is None else counted
        is_time = _TIMES.match(self.selector) and value > 0
        return value - phase.clock + begin if is_time else value


def _samples(text: str) -> dict[str, float]:
    """By selector."""
    return {
        _selector(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith(("python_", "process_"))
    }


def _selector(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f"{it}={json.dumps(labels[it])}" for it in sorted(labels)) + "}"


def _labelled(selector: str, job: str) -> str:
    name, _, labels = selector.removesuffix("}").partition("{")
    return f'{name}{{{labels}{"," if labels else ""}instance="{job}-1",job="{job}"}}'
