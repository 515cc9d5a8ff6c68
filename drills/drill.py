"""A drill: the steps of a runbook, and what it has to show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drills.stage import Stage, StoreKind


@dataclass(frozen=True, slots=True)
class Drill:
    """A runbook, practised.

    Attributes:
        name: of the drill.
        about: what is done.
        page: the runbook: a page and its heading.
        before: what happened when it was first tried, before there was a drill; empty if nothing
            failed.
        steps: does it.
        store: of the installation.
        alerts: what fires, if a Prometheus is there to say so.
        is_short: whether the short form has it.
    """

    name: str
    about: str
    page: str
    before: str
    steps: Callable[[Stage], Awaitable[None]]
    store: StoreKind = "valkey"
    is_short: bool = False
    alerts: frozenset[str] = frozenset()
