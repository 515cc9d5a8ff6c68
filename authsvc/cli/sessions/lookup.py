"""Finds a session by its id or a prefix of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsvc.cli.failing import Negative
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Record

if TYPE_CHECKING:
    from authsvc.client import AdminClient

SEARCHED = 10_000
"""How many sessions are searched for an id that begins so."""

MIN_PREFIX = 6
"""In characters: a shorter prefix is too likely to match another session."""


async def session_of(client: AdminClient, session_id: str) -> Record:
    """The session of that id, or the only one whose id begins with it.

    Raises:
        Negative: none has it, or several begin with it.
        AuthError: as ``AdminClient``.
    """
    prefix = session_id.removesuffix("…")
    try:
        return await client.get(prefix)
    except AuthError as error:
        if error.reason is not Reason.SESSION_NOT_FOUND or len(prefix) < MIN_PREFIX:
            raise
    found: list[Record] = []
    searched = 0
    async for record in client.list():
        searched += 1
        if record.id.startswith(prefix):
            found.append(record)
        if searched == SEARCHED:
            break
    if len(found) > 1:
        raise Negative(f"{len(found)} session ids begin with {prefix!a}; give more of the id")
    if not found:
        raise Negative(f"SESSION_NOT_FOUND: no session id is {prefix!a} or begins with it")
    return found[0]
