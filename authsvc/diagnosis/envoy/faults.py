"""Findings on a gateway: one that holds in many places is reported once."""

from __future__ import annotations

from collections.abc import Iterable

from authsvc.diagnosis import Finding, Level, Report

_SHOWN_PLACES = 3


class Faults:
    """Collects findings, and the places of each."""

    def __init__(self) -> None:
        self._places: dict[tuple[Level, str, str], dict[str, None]] = {}

    def ok(self, text: str, place: str) -> None:
        """As ``Report.ok``, of a place."""
        self._add(Level.OK, text, "", place)

    def note(self, text: str, place: str) -> None:
        """As ``Report.note``, of a place."""
        self._add(Level.NOTE, text, "", place)

    def warn(self, text: str, remedy: str, place: str) -> None:
        """As ``Report.warn``, of a place."""
        self._add(Level.WARN, text, remedy, place)

    def fail(self, text: str, remedy: str, place: str) -> None:
        """As ``Report.fail``, of a place."""
        self._add(Level.FAIL, text, remedy, place)

    def report_to(self, report: Report) -> None:
        """Report all of them, in the order in which they were found."""
        for (level, text, remedy), places in self._places.items():
            shown = f"{_joined(places)}: {text}"
            report.findings.append(Finding(level, report.subject, shown, remedy))

    def _add(self, level: Level, text: str, remedy: str, place: str) -> None:
        self._places.setdefault((level, text, remedy), {})[place] = None


def _joined(places: Iterable[str]) -> str:
    found = list(places)
    more = len(found) - _SHOWN_PLACES
    shown = "; ".join(found[:_SHOWN_PLACES])
    return f"{shown}; and {more} more" if more > 0 else shown
