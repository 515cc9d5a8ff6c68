"""Finds a session by the beginning of its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsvc.cli.failing import No
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Record

if TYPE_CHECKING:
    from authsvc.client import AdminClient

SEARCHED = 10_000
"""How many sessions are looked through for the beginning of an id."""

MIN_PREFIX = 6
"""Characters; a shorter beginning is a guess."""


async def session_of(client: AdminClient, session_id: str) -> Record:
    """The session of that id, or the only one whose id begins so.

    Raises:
        No: there is none, or there are several.
        AuthError: as ``AdminClient``.
    """
    beginning = session_id.removesuffix("…")
    try:
        return await client.get(beginning)
    except AuthError as error:
        if error.reason is not Reason.SESSION_NOT_FOUND or len(beginning) < MIN_PREFIX:
            raise
    found: list[Record] = []
    searched = 0
    async for record in client.list():
        searched += 1
        if record.id.startswith(beginning):
            found.append(record)
        if searched == SEARCHED:
            break
    if len(found) > 1:
        raise No(f"{len(found)} sessions begin so; give more of the id")
    if not found:
        raise No(f"SESSION_NOT_FOUND: no session has the id {beginning!a}, or begins so")
    return found[0]
