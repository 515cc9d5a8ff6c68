"""``authsvc sessions list``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, print_json, print_table, say
from authsvc.cli.sessions import records
from authsvc.cli.sessions.issuers import remark_on_issuer
from authsvc.cli.sessions.options import filter_options, full_ids_option
from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record

if TYPE_CHECKING:
    from authsvc.client import AdminClient

COUNTED = 1_000
"""How far beyond the limit it is counted what is left."""


@click.command("list", epilog="Example: authsvc sessions list --subject ada --json")
@admin_options
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@full_ids_option
@as_json_option
def list_sessions(
    connection: Connection,
    which: RecordFilter,
    limit: int,
    everything: bool,
    full_ids: bool,
    as_json: bool,
) -> None:
    """List sessions, newest first, and say how many more there are."""

    async def fetch(client: AdminClient) -> tuple[list[Record], int]:
        found: list[Record] = []
        left = 0
        async for record in client.list(which):
            if everything or len(found) < limit:
                found.append(record)
            else:
                left += 1
            if left == COUNTED:
                break
        if not found:
            await remark_on_issuer(client, which.issuer)
        return found, left

    found, left = connection.run(fetch)
    if as_json:
        print_json(
            {
                "sessions": list(map(records.document, found)),
                "left_count": left,
                "left_count_is_exact": left < COUNTED,
            }
        )
        return
    if not found:
        say("No session matches.", err=True)
        return
    now = time.time()
    print_table(records.HEADERS, [records.row(it, now, full_id=full_ids) for it in found])
    if left:
        more = f"{left:,}" if left < COUNTED else f"{COUNTED:,} or more"
        say(f"{len(found)} shown, {more} left: --limit or --all shows them.", err=True)
