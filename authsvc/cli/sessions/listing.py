"""``authsvc sessions list``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, print_json, print_line, print_table
from authsvc.cli.sessions import records
from authsvc.cli.sessions.issuers import remark_on_issuer
from authsvc.cli.sessions.options import filter_options, full_ids_option
from authsvc.domain.events import RecordFilter, RecordState, state_of
from authsvc.domain.record import Record

if TYPE_CHECKING:
    from authsvc.client import AdminClient

COUNTED = 1_000
"""How many sessions beyond the limit are counted."""


@click.command("list", epilog="Example: authsvc sessions list --subject ada --json")
@admin_options
@filter_options(*RecordState)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="List all, without a limit.")
@full_ids_option
@as_json_option
def list_sessions(
    connection: Connection,
    which: RecordFilter,
    state: RecordState | None,
    limit: int,
    everything: bool,
    full_ids: bool,
    as_json: bool,
) -> None:
    """List sessions, newest first, with the number that the limit leaves out.

    A session that was revoked is in the state `revoked`, whether it was authenticated or not. One
    whose tokens are all revoked is in the state `tokens-revoked`, until it has a later token.
    """

    async def fetch(client: AdminClient) -> tuple[list[Record], int]:
        found: list[Record] = []
        remaining = 0
        async for record in client.list(which):
            if state is not None and state_of(record) is not state:
                continue
            if everything or len(found) < limit:
                found.append(record)
            else:
                remaining += 1
            if remaining == COUNTED:
                break
        if not found:
            await remark_on_issuer(client, which.issuer)
        return found, remaining

    found, remaining = connection.run(fetch)
    if as_json:
        print_json(
            {
                "sessions": list(map(records.document, found)),
                "remaining_count": remaining,
                "remaining_count_is_exact": remaining < COUNTED,
            }
        )
        return
    if not found:
        print_line("No session matches.", err=True)
        return
    now = time.time()
    print_table(records.HEADERS, [records.row(it, now, full_id=full_ids) for it in found])
    if remaining:
        more = f"{remaining:,}" if remaining < COUNTED else f"at least {COUNTED:,}"
        print_line(f"{len(found)} shown, {more} more: use --limit or --all.", err=True)
