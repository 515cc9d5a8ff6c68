"""Was the machine quiet while something was measured? From Linux's own accounts of CPU time.

CPU time is the measure of most sections. Other processes still change it: they take caches and
turns, and a hypervisor that takes the CPU away makes every latency longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OTHERS_LIMIT = 0.05
"""Of the CPUs' time, for processes that are not of this run. A quiet machine has 0.01 or less."""

STEAL_LIMIT = 0.05
"""Of the CPUs' time, taken by the hypervisor for other machines."""

_PROC = Path("/proc")
_CPUS = frozenset(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Account:
    """CPU seconds so far.

    Attributes:
        time: when it was taken, in seconds of the monotonic clock.
        busy: of all processes on the CPUs that this run may use.
        steal: taken from these CPUs by the hypervisor.
        own: of this process and those that it started, ended ones included.
    """

    time: float
    busy: float
    steal: float
    own: float

    @classmethod
    def now(cls, proc: Path = _PROC) -> Account:
        """Take one. Interrupts count for nobody: they are mostly the run's own packets."""
        busy, steal = _of_cpus((proc / "stat").read_text(encoding="ascii"))
        return cls(time.monotonic(), busy, steal, _own(proc, os.getpid()))


def doubts(before: Account, after: Account, cpus: int = len(_CPUS)) -> list[str]:
    """Why a measurement between the two says little; empty on a quiet machine."""
    whole = cpus * (after.time - before.time)
    if whole <= 0:
        return []
    others = max(0.0, after.busy - before.busy - (after.own - before.own)) / whole
    steal = (after.steal - before.steal) / whole
    found = []
    if others > OTHERS_LIMIT:
        found.append(f"other processes took {others:.0%} of the CPUs")
    if steal > STEAL_LIMIT:
        found.append(f"the hypervisor took {steal:.0%} of the CPUs")
    return found


class Watch:
    """What disturbed a part of a run.

    Attributes:
        doubts: see ``doubts``; empty until the part has ended.
    """

    def __init__(self) -> None:
        self.doubts: Sequence[str] = ()


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the machine during the block."""
    watch, before = Watch(), Account.now()
    try:
        yield watch
    finally:
        watch.doubts = doubts(before, Account.now())


def _of_cpus(stat: str) -> tuple[float, float]:
    """Busy and steal, in seconds, from the lines of /proc/stat."""
    busy = steal = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in _CPUS:
            user, nice, system, _, _, _, _, stolen, *_ = map(int, fields)
            busy += user + nice + system
            steal += stolen
    return busy / _TICKS, steal / _TICKS


def _own(proc: Path, root: int) -> float:
    """Seconds of a process and its descendants, those that have ended and were waited for, too."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()
        pid, parent = int(folder.name), int(fields[1])
        parents.setdefault(parent, []).append(pid)
        ticks[pid] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    mine, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        mine += ticks.get(pid, 0)
        waiting += parents.get(pid, [])
    return mine / _TICKS
