"""Finds the session that an operator means, by its id or the beginning of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from authsvc.cli.failing import Failure, Negative
from authsvc.cli.output import aligned, print_line
from authsvc.common.times import relative
from authsvc.domain.record import Record
from authsvc.domain.resolution import SESSION_ID_SHOWN

if TYPE_CHECKING:
    from authsvc.client import AdminClient

_HEADERS = ("SESSION", "SUBJECT", "RESOURCES", "LAST SEEN")


async def session_of(client: AdminClient, session_id: str) -> Record:
    """The session of that id, or the only one whose id begins with it.

    Remarks on standard error how it was found, unless by its id.

    Raises:
        Failure: it is no id, and too short to be the beginning of one.
        Negative: there is none, or the ids of several begin with it.
        AuthError: as ``AdminClient``.
    """
    # Imported here: gRPC takes a while to import.
    from authsvc.client.session_lookup import ShortPrefixError, find_sessions, prefix_of

    prefix = prefix_of(session_id)
    try:
        found = await find_sessions(client, session_id)
    except ShortPrefixError as error:
        raise Failure(f"SESSION_ID: {error}") from None
    if not found.records:
        raise Negative(
            f"SESSION_NOT_FOUND: no session id is {prefix!a} or begins with it.\n"
            "The session may have ended. The audit has whose it was: search it for "
            f"{prefix[:SESSION_ID_SHOWN]!a}, in SESSION_ENDED or SESSION_REVOKED (docs/audit.md)."
        )
    if len(found.records) > 1:
        raise Negative(_several(prefix, found.records, has_more=found.has_more))
    record = found.records[0]
    if found.by_prefix:
        whose = f"of {record.subject}" if record.subject else "without a subject"
        print_line(f"Found by the beginning of its id: {record.id} {whose}.", err=True)
    elif found.has_more:
        print_line(
            f"Other session ids begin with {prefix!a}, too. "
            f"`authsvc sessions list --session {shlex.quote(prefix)}` lists them.",
            err=True,
        )
    return record


def _several(prefix: str, records: Iterable[Record], *, has_more: bool) -> str:
    now = time.time()
    rows = [
        (
            record.id,
            record.subject or "-",
            " ".join(record.grants) or "-",
            relative(record.last_seen_time, now),
        )
        for record in records
    ]
    count = f"more than {len(rows)}" if has_more else f"{len(rows)}"
    return "\n".join(
        [
            f"{count} session ids begin with {prefix!a}; give more of the id. Nothing has changed.",
            *aligned(_HEADERS, rows),
        ]
    )
