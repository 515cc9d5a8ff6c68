"""Watches: the events of sessions, as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from authsvc.admin.checks import check_filter
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter, SessionEvent
from authsvc.stores import LoggedEvent, SessionStore

MAX_WATCHERS = 32
"""Watches at once."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A watch that has begun.

    Attributes:
        resume_token: a watch from it has all of this watch's events.
        events: one at a time, as they are read. They end with SERVICE_UNAVAILABLE when
            the server stops.
    """

    resume_token: str
    events: AsyncIterator[LoggedEvent]


class SessionWatches:
    """Opens watches.

    Args:
        store: keeps the log of events.
        stopping: set when the server stops: it ends the watches, which would never end.
    """

    def __init__(self, store: SessionStore, stopping: asyncio.Event) -> None:
        self._store = store
        self._stopping = stopping
        self._watchers = 0

    @asynccontextmanager
    async def watching(
        self, which: RecordFilter, *, resume_token: str = ""
    ) -> AsyncIterator[Watch]:
        """The events from now on, or after those of an earlier watch.

        Args:
            which: the sessions. A revocation of tokens is an event of the watch where one of these
                sessions may hold such a token.
            resume_token: ``LoggedEvent.position`` of the last event; empty for from now on.

        Raises:
            AuthError: ARGUMENT_INVALID, OVERLOADED, STORE_UNAVAILABLE; while iterating also
                SERVICE_UNAVAILABLE.
        """
        check_filter(which)
        if self._watchers >= MAX_WATCHERS:
            raise AuthError(Reason.OVERLOADED, f"{MAX_WATCHERS} watches are open")
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


class _Upcoming:
    """The events of a log until the server stops. Reads one event ahead."""

    def __init__(self, log: AsyncGenerator[LoggedEvent, None], stopping: asyncio.Event) -> None:
        self._log = log
        self._stopped = asyncio.ensure_future(stopping.wait())
        self._next = asyncio.ensure_future(anext(log))

    async def all(self) -> AsyncIterator[LoggedEvent]:
        """
        Raises:
            AuthError: SERVICE_UNAVAILABLE: the server stops; or what the log raises.
        """
        while True:
            await asyncio.wait((self._next, self._stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.done():
                raise AuthError(Reason.SERVICE_UNAVAILABLE, "the server stops")
            logged = await self._next
            self._next = asyncio.ensure_future(anext(self._log))
            yield logged

    async def close(self) -> None:
        """Stop reading, and close the log."""
        self._stopped.cancel()
        self._next.cancel()
        # An error has been raised already, or there is no reader left.
        await asyncio.gather(self._stopped, self._next, return_exceptions=True)
        await self._log.aclose()


def _concerns(which: RecordFilter, event: SessionEvent) -> bool:
    """Whether a watch of these sessions has the event."""
    if event.record is not None:
        return which.matches(event.record)
    if event.not_before is None:
        return False
    # A not-before time without an issuer or a subject may concern every session.
    return all(
        not wanted or not named or wanted == named
        for wanted, named in (
            (which.issuer, event.not_before.issuer),
            (which.subject, event.not_before.subject),
        )
    )
