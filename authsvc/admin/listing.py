"""Reads sessions for operators: one, or a list in pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from authsvc.admin.checks import check_filter, invalid
from authsvc.admin.page_tokens import cursor_in, page_token_of
from authsvc.admin.revoked_tokens import with_revoked_tokens
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter
from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX, Record, check_session_id
from authsvc.stores import SessionStore

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

MAX_STORE_PAGES = 20
"""Pages of the store that are read for one page of a list; what matches by then is the page."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list.

    Attributes:
        records: the newest first.
        next_page_token: of the next page; empty at the end.
    """

    records: list[Record]
    next_page_token: str


class SessionListing:
    """Reads sessions.

    Args:
        store: keeps them.
        clock: seconds since the epoch.
    """

    def __init__(self, store: SessionStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def get(self, session_id: str) -> Record:
        """One session, with its revoked tokens marked. It may be revoked, or a principal session.

        Raises:
            AuthError: SESSION_NOT_FOUND, STORE_UNAVAILABLE.
        """
        try:
            check_session_id(session_id.removeprefix(PRINCIPAL_SESSION_PREFIX))
        except AuthError:
            raise AuthError(Reason.SESSION_NOT_FOUND) from None
        record = await self._store.get(session_id)
        if record is None or record.expire_time <= self._clock():
            raise AuthError(Reason.SESSION_NOT_FOUND)
        (marked,) = await with_revoked_tokens([record], self._store)
        return marked

    async def page(self, which: RecordFilter, *, size: int = 0, page_token: str = "") -> Listing:
        """Sessions, newest first, without those that have expired; revoked tokens are marked.

        Args:
            which: the sessions to list.
            size: how many sessions at most, up to ``MAX_PAGE_SIZE``; 0 for ``DEFAULT_PAGE_SIZE``.
            page_token: ``Listing.next_page_token`` of the last page with the same filter.

        Returns:
            A page. It may have fewer sessions than ``size``, or none, before the end of the list,
            where few of many sessions match.

        Raises:
            AuthError: ARGUMENT_INVALID, STORE_UNAVAILABLE.
        """
        check_filter(which)
        if not 0 <= size <= MAX_PAGE_SIZE:
            raise invalid(f"page_size is 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
        wanted = size or DEFAULT_PAGE_SIZE
        cursor = cursor_in(page_token, which) if page_token else ""
        now = self._clock()
        found: list[Record] = []
        for _ in range(MAX_STORE_PAGES):
            page = await self._store.page(which, after=cursor, size=wanted - len(found))
            found += (it for it in page.records if now < it.expire_time)
            cursor = page.next
            if not cursor or len(found) == wanted:
                break
        found = await with_revoked_tokens(found, self._store)
        return Listing(found, page_token_of(cursor, which) if cursor else "")
