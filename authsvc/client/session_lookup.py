"""Finds sessions by what an operator has of an id: the whole of it, or its beginning.

Logs, audit events and tables show the first characters of an id alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.client.admin import AdminClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import MIN_PREFIX_LENGTH, RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.resolution import SESSION_ID_MAX_LENGTH, SESSION_ID_SHOWN

MAX_FOUND = 20
"""Sessions that are returned at most, where the ids of several begin alike."""

_ENDS = ("…", "\\u2026")
"""The end of a truncated id: as it is shown, and as JSON escapes it."""


class ShortPrefixError(ValueError):
    """No session has this id, and it is too short to be the beginning of one."""


@dataclass(frozen=True, slots=True)
class Found:
    """The sessions that an operator may mean.

    Attributes:
        records: the one with this id; else those whose id begins with it, the newest first.
        by_prefix: whether they were found by the beginning of their id.
        has_more: whether the ids of further sessions begin with it.
    """

    records: tuple[Record, ...]
    by_prefix: bool
    has_more: bool = False


def prefix_of(text: str) -> str:
    """What a session id begins with, without the end of a truncated one and without space around
    it."""
    stripped = text.strip()
    for end in _ENDS:
        if stripped.endswith(end):
            return stripped.removesuffix(end)
    return stripped


async def find_sessions(client: AdminClient, text: str) -> Found:
    """The session with an id; where there is none, those whose id begins with it.

    A text that ends with "…" is a truncated id. It may mean any session whose id begins so, also
    where it is the whole id of one: clients choose ids, and one could choose the beginning of
    another's.

    Args:
        client: for authsvc.
        text: an id, a truncated id with "…" at its end, or a prefix of an id.

    Raises:
        ShortPrefixError: there is no such id, and it has fewer than ``MIN_PREFIX_LENGTH``
            characters.
        AuthError: as ``AdminClient``.
    """
    prefix = prefix_of(text)
    if not _may_begin_an_id(prefix):
        return Found((), by_prefix=True)
    is_long = len(prefix) >= MIN_PREFIX_LENGTH
    whole = await _whole(client, text.strip())
    if whole is None and not is_long:
        whole = await _whole(client, prefix)  # ids that are shorter are shown with the end, too
        if whole is None:
            raise ShortPrefixError(
                f"no session id is {prefix!a}; the beginning of one has at least "
                f"{MIN_PREFIX_LENGTH} characters"
            )
    if whole is None:
        return await _beginning_with(client, prefix)
    if not is_long or len(prefix) > SESSION_ID_SHOWN:
        return Found((whole,), by_prefix=False)
    # It may have been copied from a log without its end.
    others = await _beginning_with(client, prefix)
    return Found((whole,), by_prefix=False, has_more=len(others.records) > 1)


def _may_begin_an_id(prefix: str) -> bool:
    """Ids are visible ASCII (``check_session_id``)."""
    return (
        len(prefix) <= SESSION_ID_MAX_LENGTH
        and prefix.isascii()
        and prefix.isprintable()
        and " " not in prefix
    )


async def _whole(client: AdminClient, session_id: str) -> Record | None:
    """The session with exactly this id. A text that is no id asks nobody."""
    if not _may_begin_an_id(session_id):
        return None
    try:
        return await client.get(session_id)
    except AuthError as error:
        if error.reason is not Reason.SESSION_NOT_FOUND:
            raise
        return None


async def _beginning_with(client: AdminClient, prefix: str) -> Found:
    found: list[Record] = []
    async for record in client.list(RecordFilter(id_prefix=prefix), page_size=MAX_FOUND + 1):
        found.append(record)
        if len(found) > MAX_FOUND:
            break
    return Found(tuple(found[:MAX_FOUND]), by_prefix=True, has_more=len(found) > MAX_FOUND)
