"""The printed summary, and the JSON report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.figures import machine, table
from chaos.figures import Spread
from chaos.history import Call
from chaos.run import Result

SHOWN = 5
"""Violations that are printed for each run; the JSON report has all."""


def summary(results: Iterable[Result]) -> str:
    """A table of all runs."""
    head = ("fault", "calls", "failed", "p50/p99/max ms", "obeyed p50/p99/max ms", "recovered", "")
    return table(head, [_row(result) for result in results])


def findings(result: Result) -> list[str]:
    """Violations and exceeded bounds of a run, a line each."""
    shown = [
        f"{violation.rule}: {violation.text} ({violation.call})"
        for violation in result.violations[:SHOWN]
    ]
    more = len(result.violations) - SHOWN
    return [*result.missed, *shown, *([f"and {more} more"] if more > 0 else [])]


def memory(result: Result) -> list[str]:
    """Growth of the replicas' memory, a line each."""
    return [
        f"{name}: {growth.first / 1024:.1f} MB, then {growth.last / 1024:.1f} MB: "
        f"{growth.per_minute:+.0f} KB a minute"
        for name, growth in result.memory.items()
    ]


def write(path: Path, results: Sequence[Result], settings: Mapping[str, object]) -> None:
    """Everything as JSON."""
    report = {
        "machine": machine(),
        "settings": settings,
        "runs": [
            {
                "fault": result.fault.name,
                "about": result.fault.about,
                "passed": result.passed,
                "figures": asdict(result.figures),
                "memory_kb": {name: asdict(growth) for name, growth in result.memory.items()},
                "missed": result.missed,
                "violations": [
                    {
                        "rule": violation.rule,
                        "text": violation.text,
                        "call": _call(violation.call),
                    }
                    for violation in result.violations
                ],
                "trail": [_call(call) for call in result.trail],
            }
            for result in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _call(call: Call) -> dict[str, object]:
    return asdict(call) | {"act": call.act.value}


def _row(result: Result) -> tuple[str, ...]:
    figures = result.figures
    recovery = figures.recovery_seconds
    return (
        result.fault.name,
        f"{figures.calls:,}",
        f"{sum(figures.failures.values()):,}",
        _millis(figures.latency),
        _millis(figures.obeyed),
        "-" if recovery is None else f"{recovery:.2f} s",
        "kept" if result.passed else "BROKEN",
    )


def _millis(spread: Spread) -> str:
    return " / ".join(f"{1000 * value:.1f}" for value in (spread.p50, spread.p99, spread.max))
