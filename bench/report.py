"""The report: one HTML file that needs no other, and the same as JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.figures import machine, table
from bench.section import NO_VERDICT, Goal, Plot, Section

Draw = Callable[[Plot], str]

GOALS_HEAD = ("goal", "to be reached", "measured", "met")

INTRODUCTION = (
    "<p>Medians over the rounds, and the quartiles: half of the rounds lie between them. Compared "
    "sides alternate in one run, and each ratio is taken within its round. "
    "<code>docs/performance.md</code> says how it is measured, and how to read it.</p>"
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } p, li { max-width: 48rem; } small { color: #57606a; }
.no { color: #b3261e; font-weight: 600; } .yes { color: #1a7f37; } .none { color: #8a6100; }
svg { max-width: 100%; height: auto; }
"""


def goal_rows(sections: Sequence[Section]) -> list[list[str]]:
    """A row for each goal; see ``GOALS_HEAD``."""
    return [
        [
            goal.text,
            f"{'≥' if goal.at_least else '≤'} {goal.limit:,.{goal.digits}f} {goal.unit}".strip(),
            f"{goal.measured.show(goal.digits)} {goal.unit}".strip(),
            part.verdict(goal),
        ]
        for part in sections
        for goal in part.goals
    ]


def as_text(sections: Sequence[Section]) -> str:
    """The report for a terminal."""
    parts = [table(GOALS_HEAD, goal_rows(sections))]
    for part in sections:
        parts.append(f"## {part.title}")
        if part.rows:
            parts.append(table(part.head, part.rows))
        parts.extend([*part.notes, *_disturbed(part)])
    return "\n\n".join(parts)


def write(
    folder: Path, sections: Sequence[Section], settings: Mapping[str, object], draw: Draw
) -> None:
    """Write ``report.html`` and ``report.json``.

    Args:
        folder: where to.
        sections: in their order.
        settings: of the run.
        draw: makes a plot an SVG element.
    """
    known = machine()
    report = {
        "machine": known,
        "settings": settings,
        "goals": [_with_verdict(part, goal) for part in sections for goal in part.goals],
        "sections": [asdict(part) for part in sections],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_page(sections, known, draw), encoding="utf-8")


def _with_verdict(part: Section, goal: Goal) -> dict[str, object]:
    """For JSON; ``met`` is null where there is no verdict."""
    verdict = part.verdict(goal)
    met = {"yes": True, "no": False}.get(verdict)
    return {**asdict(goal), "met": met, "verdict": verdict}


def _disturbed(part: Section) -> list[str]:
    return [f"Disturbed: {'; '.join(part.doubts)}. {NO_VERDICT.capitalize()}."] * bool(part.doubts)


def _page(sections: Sequence[Section], known: Mapping[str, str], draw: Draw) -> str:
    body = [
        "<h1>authsvc under load</h1>",
        f"<p><small>{html.escape(', '.join(known.values()))}</small></p>",
        INTRODUCTION,
        "<h2>Goals</h2>",
        _table(GOALS_HEAD, goal_rows(sections)),
    ]
    for part in sections:
        body.append(f"<h2>{html.escape(part.title)}</h2>")
        if part.rows:
            body.append(_table(part.head, part.rows))
        body += [f"<p>{html.escape(note)}</p>" for note in (*part.notes, *_disturbed(part))]
        body += [draw(plot) for plot in part.plots]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>authsvc under load</title>'
        f"<style>{STYLE}</style><body>" + "\n".join(body) + "</body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{names}</tr>{lines}</table></div>'


def _cell(text: str) -> str:
    classes = {"yes": "yes", "no": "no", NO_VERDICT: "none"}
    known = classes.get(text.partition(":")[0])
    kind = f' class="{known}"' if known else ""
    return f"<td{kind}>{html.escape(text)}</td>"
