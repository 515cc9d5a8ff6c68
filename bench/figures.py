"""From samples to figures: medians, spread, ratios and tables. Pure, but for the machine's name."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from time import gmtime, strftime

MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round took.

    Attributes:
        calls: calls that were answered; a batch of n counts n.
        seconds: by the wall's clock.
        server_cpu_seconds: of the server's process.
        client_cpu_seconds: of the load generator's process.
    """

    calls: int
    seconds: float
    server_cpu_seconds: float
    client_cpu_seconds: float

    @property
    def calls_per_second(self) -> float:
        """Throughput."""
        return self.calls / self.seconds

    @property
    def server_micros(self) -> float:
        """CPU µs a call on the server."""
        return MICROS * self.server_cpu_seconds / self.calls

    @property
    def client_micros(self) -> float:
        """CPU µs a call on the client."""
        return MICROS * self.client_cpu_seconds / self.calls

    @property
    def server_load(self) -> float:
        """How many CPUs the server kept busy. Well below 1, the client was what held it back."""
        return self.server_cpu_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of several rounds, and the quartiles: half of the rounds lie between them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summarise at least one value."""
        known = list(values)
        low, middle, high = (
            quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
        )
        return cls(middle, low, high)

    @classmethod
    def of_ratios(cls, values: Sequence[float], others: Sequence[float]) -> Summary:
        """The ratio of two sides, round by round, so that what slows a whole round cancels out."""
        return cls.of(value / other for value, other in zip(values, others, strict=True))

    @classmethod
    def of_differences(cls, values: Sequence[float], others: Sequence[float]) -> Summary:
        """By how much one side exceeds the other, round by round."""
        return cls.of(value - other for value, other in zip(values, others, strict=True))

    def show(self, digits: int = 0) -> str:
        """Such as ``142 (138-151)``."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({low}-{high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that is also readable as it stands: first column left, others right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, rule)
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in lines
    )


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    return {
        "time": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()),
        "cpus": f"{os.cpu_count()}x {_cpu_model()}",
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "system": platform.platform(),
    }


def write_report(
    path: Path,
    settings: Mapping[str, object],
    samples: Mapping[str, Sequence[Sample]],
    **others: object,
) -> None:
    """Write every sample of a run as JSON, by side, in the order in which they were taken."""
    report = {
        "machine": machine(),
        "settings": settings,
        "samples": {side: [asdict(sample) for sample in taken] for side, taken in samples.items()},
        **others,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
