"""What people and scripts get to see: tables, JSON, times; never a terminal's control sequence.

Subjects, ids and claims are what somebody else wrote. Whatever could move a cursor, change a
colour, turn text around or hide is shown as its escape.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from authsvc.common.printable import printable

as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def say(text: str, *, err: bool = False) -> None:
    """Print one line, whatever is in it."""
    click.echo(printable(text), err=err)


def print_json(value: object) -> None:
    """Print ``value`` as JSON of ASCII alone, so that nothing in it reaches a terminal."""
    click.echo(json.dumps(value, indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: drawn for a terminal, aligned by spaces for a pipe."""
    safe = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, safe)
        return
    widths = [max(map(len, column)) for column in zip(headers, *safe, strict=True)]
    for row in (headers, *safe):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name.ljust(width)}  {printable(value)}".rstrip())


def relative(time: float, now: float) -> str:
    """A time as people say it: ``3 min ago``, ``in 2 h``."""
    if abs(time - now) < 1:
        return "now"
    return f"{span(now - time)} ago" if time < now else f"in {span(time - now)}"


def span(seconds: float) -> str:
    """A duration by its two largest units: ``2 h 5 min``."""
    parts: list[str] = []
    left = int(seconds)
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "0 s"


def plural(count: int, noun: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def timestamp(time: float) -> str:
    """A time for scripts: RFC 3339, in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(time, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(time: float, now: float) -> str:
    """A time for people: ``2026-11-23 21:05:00Z (3 min ago)``."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%SZ} ({relative(time, now)})"


def _draw(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Here, since it takes a while to import, and pipes do without.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        # Text, since a string would be read for markup.
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
