"""What operators may do: look at sessions, cut tokens off, and watch what happens.

Decides; knows no transport and no store by name. Raises ``AuthError`` alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from typing import Protocol

from authsvc import __version__
from authsvc.access import audit
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import Event, RecordFilter, revoked_since
from authsvc.domain.revocation import END_OF_TIME, NotBefore
from authsvc.domain.service_status import IssuerStatus, ServiceStatus, SessionCounts
from authsvc.domain.sessions import PRINCIPAL_SESSION_PREFIX, Limits, Record, check_session_id
from authsvc.stores import Logged, SessionStore

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

MAX_TEXT_LENGTH = 2_048
"""Characters of an issuer, a subject, a token's id or a resource."""

MAX_STORE_PAGES = 20
"""Parts of the store that are looked through for one page; what is found by then is the page."""

COUNT_PAGE_SIZE = 10_000
MAX_COUNT_PAGES = 10
"""Whoever makes more sessions than are read cannot hold their own revocation up."""

MAX_WATCHERS = 32

NOT_BEFORES_MARGIN_SECONDS = 86_400.0
"""Not-befores outlive the tokens that they end, whatever the clocks of replicas and issuers say."""

_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list.

    Attributes:
        records: the newest first.
        next_page_token: what to ask for the next page with; empty at the end.
    """

    records: list[Record]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a revocation has done.

    Attributes:
        session_count: how many live sessions held a token that it ended; None when that is not
            known.
        consistency_token: of the write.
        not_before: what was set; None where a session was ended.
    """

    session_count: int | None
    consistency_token: str
    not_before: NotBefore | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """A watch that has begun.

    Attributes:
        resume_token: what to watch from to get all of its events.
        events: one at a time, as they are asked for. They end with STORE_UNAVAILABLE when the
            server stops.
    """

    resume_token: str
    events: AsyncIterator[Logged]


class EndSession(Protocol):
    """Ends a session for every resource; ``SessionResolver.revoke`` is one."""

    async def __call__(self, session_id: str, *, caller: str) -> str:
        """
        Returns:
            The consistency token of what was written; empty when there was nothing to end.

        Raises:
            AuthError: SESSION_ID_INVALID, STORE_UNAVAILABLE.
        """
        ...


class SessionAdmin:
    """``SessionAdminService``, without its transport.

    Args:
        store: keeps sessions, not-befores and the log.
        end_session: ends one.
        issuers: how the issuers are at a time.
        stopping: set when the server stops: it ends the watches, which would never end.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        end_session: EndSession,
        issuers: Callable[[float], tuple[IssuerStatus, ...]],
        stopping: asyncio.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._end_session = end_session
        self._issuers = issuers
        self._stopping = stopping
        self._clock = clock
        self._start_time = clock()
        self._watchers = 0

    async def get(self, session_id: str) -> Record:
        """One session, a revoked or a principal one too.

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
        return record

    async def page(self, which: RecordFilter, *, size: int = 0, page_token: str = "") -> Listing:
        """Sessions, newest first; those past their limits are left out.

        Args:
            which: what they have to match.
            size: how many at most, up to ``MAX_PAGE_SIZE``; 0 for ``DEFAULT_PAGE_SIZE``.
            page_token: ``Listing.next_page_token`` of the last page with the same filter.

        Returns:
            A page that is short, or even empty, before the end, where few of many match.

        Raises:
            AuthError: ARGUMENT_INVALID, STORE_UNAVAILABLE.
        """
        _check_filter(which)
        if not 0 <= size <= MAX_PAGE_SIZE:
            raise _invalid(f"page_size is 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
        wanted = size or DEFAULT_PAGE_SIZE
        cursor = _cursor_in(page_token, which) if page_token else ""
        now = self._clock()
        found: list[Record] = []
        for _ in range(MAX_STORE_PAGES):
            page = await self._store.page(which, after=cursor, size=wanted - len(found))
            found += (it for it in page.records if now < it.expire_time)
            cursor = page.next
            if not cursor or len(found) == wanted:
                break
        return Listing(found, _page_token(cursor, which) if cursor else "")

    async def revoke_subject(
        self,
        issuer: str,
        subject: str,
        *,
        before_time: float | None,
        caller: str,
        allow_unknown_issuer: bool = False,
    ) -> Revocation:
        """End every token of a subject that was issued up to a time.

        Args:
            issuer: claim ``iss``.
            subject: claim ``sub``.
            before_time: the time; None for now, or for the ``iat`` of the newest token known where
                the issuer's clock is ahead.
            caller: the name of who asks.
            allow_unknown_issuer: whether the issuer may be one that is not configured.

        Raises:
            AuthError: ARGUMENT_INVALID, STORE_UNAVAILABLE.
        """
        self._check_issuer(issuer, allow_unknown=allow_unknown_issuer)
        _check_name("subject", subject)
        self._check_past(before_time)
        records, are_all = await self._records_of(issuer, subject)
        now = self._clock()
        until = max(now, _newest_issue_time(records)) if before_time is None else before_time
        live = [record for record in records if now < record.expire_time]
        count = sum(_would_end(record, until) for record in live) if are_all else None
        not_before = NotBefore(until, now, issuer=issuer, subject=subject)
        return await self._set_not_before(not_before, caller, session_count=count)

    async def revoke_token(
        self, issuer: str, token_id: str, *, caller: str, allow_unknown_issuer: bool = False
    ) -> Revocation:
        """End one token, whenever it was issued.

        Args:
            issuer: claim ``iss``.
            token_id: claim ``jti``.
            caller: the name of who asks.
            allow_unknown_issuer: whether the issuer may be one that is not configured.

        Raises:
            AuthError: ARGUMENT_INVALID, STORE_UNAVAILABLE.
        """
        self._check_issuer(issuer, allow_unknown=allow_unknown_issuer)
        _check_name("token_id", token_id)
        not_before = NotBefore(END_OF_TIME, self._clock(), issuer=issuer, token_id=token_id)
        return await self._set_not_before(not_before, caller)

    async def revoke_everyone(self, *, before_time: float | None, caller: str) -> Revocation:
        """End every token of everyone that was issued up to a time.

        Args:
            before_time: the time; None for now.
            caller: the name of who asks.

        Raises:
            AuthError: ARGUMENT_INVALID, STORE_UNAVAILABLE.
        """
        self._check_past(before_time)
        now = self._clock()
        until = now if before_time is None else before_time
        return await self._set_not_before(NotBefore(until, now), caller)

    async def revoke_session(self, session_id: str, *, caller: str) -> Revocation:
        """End one session, for every resource, whatever its tokens.

        Args:
            session_id: which; of a principal session, too.
            caller: the name of who asks.

        Raises:
            AuthError: SESSION_ID_INVALID, STORE_UNAVAILABLE.
        """
        written = await self._end_session(session_id, caller=caller)
        return Revocation(1 if written else 0, written)

    async def status(self, *, count_sessions: bool = False) -> ServiceStatus:
        """How this process is.

        Args:
            count_sessions: whether they are counted, the newest ``COUNT_PAGE_SIZE`` of them.

        Raises:
            AuthError: STORE_UNAVAILABLE, where sessions are to be counted.
        """
        counts = await self._counted() if count_sessions else None
        now = self._clock()
        return ServiceStatus(
            version=__version__,
            start_time=self._start_time,
            time=now,
            store_ready=self._store.ready,
            issuers=self._issuers(now),
            sessions=counts,
        )

    @asynccontextmanager
    async def watching(
        self, which: RecordFilter, *, resume_token: str = ""
    ) -> AsyncIterator[Watch]:
        """What happens from here on, or from where an earlier watch broke off.

        Args:
            which: sessions; a not-before is told of where it may concern one of them.
            resume_token: ``Logged.position`` of the last event seen; empty for from now on.

        Raises:
            AuthError: ARGUMENT_INVALID, OVERLOADED, STORE_UNAVAILABLE; while iterating, too.
        """
        _check_filter(which)
        if self._watchers >= MAX_WATCHERS:
            raise AuthError(Reason.OVERLOADED, f"{MAX_WATCHERS} watch already")
        self._watchers += 1
        try:
            position = resume_token or await self._store.position()
            upcoming = _Upcoming(self._store.watch(position), self._stopping)
            try:
                events = (it async for it in upcoming.all() if _concerns(which, it.event))
                yield Watch(position, events)
            finally:
                await upcoming.close()
        finally:
            self._watchers -= 1

    async def _records_of(self, issuer: str, subject: str) -> tuple[list[Record], bool]:
        """What is stored of a subject, and whether that is all of it."""
        which = RecordFilter(issuer=issuer, subject=subject)
        found: list[Record] = []
        cursor = ""
        for _ in range(MAX_COUNT_PAGES):
            page = await self._store.page(which, after=cursor, size=COUNT_PAGE_SIZE)
            found += page.records
            cursor = page.next
            if not cursor:
                return found, True
        return found, False

    async def _counted(self) -> SessionCounts:
        page = await self._store.page(RecordFilter(), size=COUNT_PAGE_SIZE)
        now = self._clock()
        there = [record for record in page.records if now < record.expire_time]
        live = [record for record in there if revoked_since(record) is None]
        authenticated = sum(record.authenticated for record in live)
        return SessionCounts(
            unauthenticated=len(live) - authenticated,
            authenticated=authenticated,
            revoked=len(there) - len(live),
            truncated=bool(page.next),
        )

    async def _set_not_before(
        self, not_before: NotBefore, caller: str, *, session_count: int | None = None
    ) -> Revocation:
        written = await self._store.set_not_before(not_before)
        audit.tokens_revoked(
            issuer=not_before.issuer,
            subject=not_before.subject,
            token_id=not_before.token_id,
            until=not_before.time,
            caller=caller,
        )
        return Revocation(session_count, written, not_before)

    def _check_issuer(self, issuer: str, *, allow_unknown: bool) -> None:
        """
        Raises:
            AuthError: ARGUMENT_INVALID: no issuer, or one whose tokens are accepted nowhere, so
                that a misspelt name would revoke nothing and look like a success.
        """
        _check_name("issuer", issuer)
        configured = [it.issuer for it in self._issuers(self._clock())]
        if issuer not in configured and not allow_unknown:
            raise _invalid(f"{issuer!r} is not configured; these are: {', '.join(configured)}")

    def _check_past(self, before_time: float | None) -> None:
        if before_time is not None and not 0 <= before_time <= self._clock():
            raise _invalid("before_time is not in the past")


async def tidy(store: SessionStore, *, now: float, limits: Limits) -> None:
    """Remove what nobody can ask for any more; to be done every so often.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    await store.sweep(now)
    kept_seconds = limits.not_befores_kept_seconds + NOT_BEFORES_MARGIN_SECONDS
    await store.delete_not_befores(now - kept_seconds)


class _Upcoming:
    """The events of a log, one ahead of who reads them, until the server stops."""

    def __init__(self, log: AsyncGenerator[Logged, None], stopping: asyncio.Event) -> None:
        self._log = log
        self._stopped = asyncio.ensure_future(stopping.wait())
        self._next = asyncio.ensure_future(anext(log))

    async def all(self) -> AsyncIterator[Logged]:
        """
        Raises:
            AuthError: STORE_UNAVAILABLE: the server stops, or what the log raises.
        """
        while True:
            await asyncio.wait((self._next, self._stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.done():
                raise AuthError(Reason.STORE_UNAVAILABLE, "the server stops")
            logged = await self._next
            self._next = asyncio.ensure_future(anext(self._log))
            yield logged

    async def close(self) -> None:
        """Stop reading, and let go of the log."""
        self._stopped.cancel()
        self._next.cancel()
        # What it raised has been told, or nobody is left to be told.
        await asyncio.gather(self._stopped, self._next, return_exceptions=True)
        await self._log.aclose()


def _newest_issue_time(records: Iterable[Record]) -> float:
    times = (grant.issue_time for record in records for grant in record.grants.values())
    return max(times, default=0.0)


def _would_end(record: Record, until: float) -> bool:
    """Whether a token of the session still answers, and a not-before then ends it."""
    since = -math.inf
    if record.revoke_time is not None:
        # A principal session lives on for tokens that were issued after it was revoked.
        since = record.revoke_time if record.id.startswith(PRINCIPAL_SESSION_PREFIX) else math.inf
    return any(since < grant.issue_time <= until for grant in record.grants.values())


def _concerns(which: RecordFilter, event: Event) -> bool:
    """Whether who watches these sessions is told."""
    if event.record is not None:
        return which.matches(event.record)
    if event.not_before is None:
        return False
    # Where a not-before leaves open whose tokens it ends, it may be anybody's.
    return all(
        not wanted or not named or wanted == named
        for wanted, named in (
            (which.issuer, event.not_before.issuer),
            (which.subject, event.not_before.subject),
        )
    )


def _check_name(what: str, text: str) -> None:
    if not 0 < len(text) <= MAX_TEXT_LENGTH:
        raise _invalid(f"{what} is 1 to {MAX_TEXT_LENGTH} characters")


def _check_filter(which: RecordFilter) -> None:
    for text in (which.issuer, which.subject, which.resource):
        if len(text) > MAX_TEXT_LENGTH:
            raise _invalid(f"what is filtered by is {MAX_TEXT_LENGTH} characters at most")


def _page_token(cursor: str, which: RecordFilter) -> str:
    """A store's cursor, bound to the filter that it belongs to."""
    return base64.urlsafe_b64encode(_digest(which) + cursor.encode()).decode()


def _cursor_in(page_token: str, which: RecordFilter) -> str:
    try:
        content = base64.b64decode(page_token, altchars=b"-_", validate=True)
        digest, cursor = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:].decode()
    except ValueError:
        raise _invalid("page_token is none of ours") from None
    if not cursor or digest != _digest(which):
        raise _invalid("page_token belongs to another filter")
    return cursor


def _digest(which: RecordFilter) -> bytes:
    return hashlib.sha256(json.dumps(astuple(which)).encode()).digest()[:_DIGEST_BYTES]


def _invalid(detail: str) -> AuthError:
    return AuthError(Reason.ARGUMENT_INVALID, detail)
