"""``authsvc sessions show``."""

from __future__ import annotations

import time

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, moment, print_fields, print_json
from authsvc.cli.sessions import records
from authsvc.cli.sessions.ids import SessionIdCommand
from authsvc.cli.sessions.lookup import session_of
from authsvc.domain.events import state_of


@click.command("show", cls=SessionIdCommand, epilog="Example: authsvc sessions show 4fZk0Qe1")
@admin_options
@click.argument("session_id")
@as_json_option
def show_session(connection: Connection, session_id: str, as_json: bool) -> None:
    """Show one session, by its id or a prefix of it.

    The id may be truncated as in logs and tables, with or without the "…" at its end. Six
    characters or more find a session; where the ids of several begin so, they are listed.
    """
    record = connection.run(lambda client: session_of(client, session_id))
    if as_json:
        print_json(records.document(record))
        return
    now = time.time()
    print_fields(
        [
            ("session", record.id),
            ("state", state_of(record).value),
            ("subject", record.subject or "-"),
            ("issuer", record.issuer or "-"),
            ("revision", str(record.revision)),
            ("created", moment(record.create_time, now)),
            ("last seen", moment(record.last_seen_time, now)),
            ("expires", moment(record.expire_time, now)),
        ]
    )
    for resource, grant in record.grants.items():
        click.echo()
        print_fields(
            [
                ("resource", resource),
                ("token", "revoked" if grant.token_revoked else "not revoked"),
                ("client", grant.client_id or "-"),
                ("token id", grant.token_id or "-"),
                ("issued", moment(grant.issue_time, now)),
                ("expires", moment(grant.expire_time, now)),
            ]
        )
