"""Output for people and scripts: tables, JSON, times; never a terminal control sequence.

Subjects, ids and claims are untrusted text. What could move a cursor, change a colour, reverse
text or hide it is printed as its escape.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from authsvc.common import times
from authsvc.common.printable import printable

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line of untrusted text."""
    click.echo(printable(text), err=err)


def print_json(value: object) -> None:
    """Print ``value`` as ASCII JSON, which holds no control sequence."""
    click.echo(json.dumps(value, indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines on a terminal, aligned by spaces in a pipe."""
    safe = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, safe)
        return
    for line in aligned(headers, safe):
        click.echo(line)


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table that spaces align; cells are not escaped."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headers, *rows)
    ]


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, a line each."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name.ljust(width)}  {printable(value)}".rstrip())


def plural(count: int, noun: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(time: float, now: float) -> str:
    """A time for people: ``2026-11-23 21:05:00Z (3 min ago)``."""
    return f"{times.utc(time):%Y-%m-%d %H:%M:%SZ} ({times.relative(time, now)})"


def _draw(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Imported here: it is slow to import, and pipes do not need it.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        # As Text: markup in a string would be interpreted.
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
