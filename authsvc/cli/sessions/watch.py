"""``authsvc sessions watch``."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, print_line
from authsvc.cli.sessions import records
from authsvc.cli.sessions.issuers import remark_on_issuer
from authsvc.cli.sessions.options import filter_options, full_ids_option
from authsvc.domain.events import RecordFilter, RecordState

if TYPE_CHECKING:
    from authsvc.client import AdminClient


@click.command("watch", epilog="Example: authsvc sessions watch --subject ada --json")
@admin_options
@filter_options(RecordState.AUTHENTICATED, RecordState.UNAUTHENTICATED)
@click.option(
    "--resume-token", default="", help="Resume after the event with this token; default: from now."
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@full_ids_option
@as_json_option
def watch(
    connection: Connection,
    which: RecordFilter,
    state: RecordState | None,
    resume_token: str,
    count: int | None,
    full_ids: bool,
    as_json: bool,
) -> None:
    """Print events of sessions as they happen, until Ctrl-C.

    A watch that is interrupted resumes where it was, at any replica. With --json, prints one object
    a line; the resume_token of an event resumes after it, while events are kept.
    """

    async def follow(client: AdminClient) -> None:
        printed = 0
        await remark_on_issuer(client, which.issuer)
        async with client.watching(which, resume_token=resume_token) as events:
            if not as_json:
                print_line("Watching; press Ctrl-C to stop.", err=True)
            async for watched in events:
                if as_json:
                    line = json.dumps(records.event_document(watched.event, watched.resume_token))
                else:
                    line = records.event_line(watched.event, full_id=full_ids)
                print_line(line)
                printed += 1
                if printed == count:
                    return

    with suppress(KeyboardInterrupt):
        connection.run(follow)
