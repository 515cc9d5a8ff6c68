"""A ``SessionAdmin`` over a store whose behaviour a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from types import MappingProxyType

from authsvc.admin.sessions import SessionAdmin
from authsvc.domain.events import EventType, RecordFilter
from authsvc.domain.record import Grant, Record
from authsvc.domain.service_status import IssuerState, IssuerStatus
from authsvc.stores import LoggedEvent, Page
from authsvc.stores.memory import MemoryStore
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock

ALL = RecordFilter()
WAIT_SECONDS = TIMEOUT_SECONDS


class Store(MemoryStore):
    """Gives short pages, and counts its reads."""

    def __init__(self, page_size: int = 1_000) -> None:
        super().__init__(unauthenticated_cap=1_000)
        self.page_size = page_size
        self.pages_read = 0
        self.records_read = 0
        self.logs_open = 0
        self.events_read = 0

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        self.pages_read += 1
        # As a store that searches all records, and may find none on a page.
        page = await super().page(ALL, after=after, size=min(size, self.page_size))
        return Page([record for record in page.records if which.matches(record)], page.next)

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        found = await super().records_of(issuer, subject, most=most)
        self.records_read += len(found)
        return found

    async def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        self.logs_open += 1
        try:
            async for logged in super().watch(position):
                self.events_read += 1
                yield logged
        finally:
            self.logs_open -= 1


@dataclass
class Office:
    """A ``SessionAdmin`` and its parts."""

    admin: SessionAdmin
    store: Store
    clock: Clock
    stopping: asyncio.Event


def record(
    session_id: str, *, subject: str = "alice", now: float = START, **more: object
) -> Record:
    grant = Grant(b"d" * 32, now, now + 600, "j1", "client")
    made = Record(
        session_id,
        1,
        now,
        now,
        now + 3600,
        "idp" if subject else "",
        subject,
        MappingProxyType({"https://a.example/mcp": grant} if subject else {}),
    )
    return replace(made, **more)  # type: ignore[arg-type] # any field


async def fill(office: Office, *records: Record) -> None:
    for item in records:
        assert await office.store.put(item, EventType.CREATED) is not None


def office_of(clock: Clock) -> Office:
    store, stopping = Store(), asyncio.Event()

    async def end_session(session_id: str, *, caller: str) -> str:
        raise AssertionError("no session is ended here")

    admin = SessionAdmin(
        store,
        end_session=end_session,
        issuers=lambda _: (IssuerStatus("idp", IssuerState.READY, "secret_file"),),
        stopping=stopping,
        clock=clock,
    )
    return Office(admin, store, clock, stopping)
