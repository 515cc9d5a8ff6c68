"""Alert rules on made or recorded series, by Prometheus's own promtool."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT

RULES = ROOT / "deploy" / "monitoring" / "alerts.yaml"
UNPACKED = ROOT / "var" / "prometheus"
"""Where ``scripts/clients.sh`` unpacks Debian's package."""

Line = Callable[[float], float | None]
"""A series: by seconds from the start, its sample; None where there is none."""

_FIRED = 'group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[7d]))'


def executable(name: str) -> str:
    """The path of ``promtool`` or ``prometheus``. Skips where there is none."""
    unpacked = UNPACKED / name
    path = shutil.which(name) or (str(unpacked) if unpacked.is_file() else None)
    if path is None:
        pytest.skip(f"there is no {name}; run: sh scripts/clients.sh .venv")
    return path


def gauge(*parts: tuple[float, float | None]) -> Line:
    """A value for some seconds, then the next; the last one stays. None is no sample."""

    def line(now: float) -> float | None:
        for seconds, value in parts:
            if (now := now - seconds) < 0:
                return value
        return parts[-1][1]

    return line


def counter(*parts: tuple[float, float], start: float = 0.0) -> Line:
    """It grows for some seconds by a number a second, then by the next; it stays after the last."""

    def line(now: float) -> float:
        value = start
        for seconds, per_second in parts:
            value += per_second * max(0.0, min(now, seconds))
            now -= seconds
        return float(int(value))

    return line


def jumps(*at: tuple[float, float], start: float = 0.0) -> Line:
    """A counter that grows at some seconds, each time by a number."""
    return lambda now: start + sum(by for seconds, by in at if seconds <= now)


def without(line: Line, begin: float, end: float) -> Line:
    """``line``, with no samples between two times: a scrape fails, or there is no series yet."""
    return lambda now: None if begin <= now < end else line(now)


def restarted(line: Line, at: float) -> Line:
    """The counter of a process that has restarted at a time."""

    def again(now: float) -> float | None:
        value = line(now)
        if value is None or now < at:
            return value
        return value - (line(at) or 0.0)

    return again


@dataclass(frozen=True, slots=True)
class Scenario:
    """Series over time, and the alerts that they fire.

    Attributes:
        name: what happens.
        series: by their selectors.
        fires: the alerts that fire at any time, no other: each with the second by which it does.
        seconds: how long it is watched.
        scrapes: the intervals in seconds that it is looked at with. Rules are evaluated as often,
            each 30 s at most.
    """

    name: str
    series: Mapping[str, Line]
    fires: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 1200.0
    scrapes: Sequence[int] = (15, 60)

    def __str__(self) -> str:
        return self.name


def check(scenario: Scenario, folder: Path) -> None:
    """Evaluate the alert rules on the series of a scenario.

    Raises:
        AssertionError: other alerts fire, or they fire later.
    """
    files = [_written_test(scenario, interval, folder) for interval in scenario.scrapes]
    run = subprocess.run(
        [executable("promtool"), "test", "rules", *files],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        # Most of its time, for little memory.
        env={**os.environ, "GOGC": "off"},
    )
    assert run.returncode == 0, f"{scenario}:\n{run.stdout}{run.stderr}"


def _written_test(scenario: Scenario, interval: int, folder: Path) -> str:
    """The file of a scenario's test, with a scrape each ``interval`` seconds."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{max(30, interval)}s",
        "tests": [_test(scenario, interval)],
    }
    file = folder / f"{interval}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False, width=1_000_000))
    return str(file)


def _test(scenario: Scenario, interval: int) -> dict[str, object]:
    times = range(0, int(scenario.seconds) + 1, interval)
    return {
        "interval": f"{interval}s",
        "input_series": [
            {"series": selector, "values": " ".join(_written(map(line, times)))}
            for selector, line in scenario.series.items()
        ],
        "promql_expr_test": [
            *(_expected(f'{{alertname="{it}"}}', by, [it]) for it, by in scenario.fires.items()),
            _expected("", times[-1], sorted(scenario.fires)),
        ],
    }


def _written(samples: object) -> list[str]:
    """Samples as promtool reads them. A series that ends is stale at once, as with a scrape."""
    written, had_sample = [], False
    for sample in samples:  # type: ignore[attr-defined]
        if sample is None:
            written.append("stale" if had_sample else "_")
        else:
            written.append(f"{sample:.17g}")
        had_sample = sample is not None
    return written


def _expected(labels: str, second: float, alerts: Sequence[str]) -> dict[str, object]:
    wanted = labels.removeprefix("{").removesuffix("}")
    expression = _FIRED.replace("ALERTS{", f"ALERTS{{{wanted}," if wanted else "ALERTS{")
    return {
        "expr": expression,
        "eval_time": f"{int(second)}s",
        "exp_samples": [{"labels": f'{{alertname="{it}"}}', "value": 1} for it in alerts],
    }
