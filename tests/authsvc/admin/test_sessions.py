"""``SessionAdmin`` over a store whose behaviour a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from types import MappingProxyType

import pytest

from authsvc.admin.listing import MAX_STORE_PAGES
from authsvc.admin.retention import NOT_BEFORES_MARGIN_SECONDS, tidy
from authsvc.admin.revocations import COUNT_PAGE_SIZE, MAX_COUNT_PAGES
from authsvc.admin.sessions import SessionAdmin
from authsvc.admin.watches import MAX_WATCHERS
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Grant, Limits, Record
from authsvc.domain.revocation import EVERYONE, NotBefore
from authsvc.domain.revocation_target import EveryoneTarget, SubjectTarget, TokenTarget
from authsvc.domain.service_status import IssuerState, IssuerStatus, SessionCounts
from authsvc.stores import LoggedEvent, Page
from authsvc.stores.memory import MemoryStore
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import admin as admin_wire
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock

pytestmark = pytest.mark.anyio

ALL = RecordFilter()
WAIT_SECONDS = TIMEOUT_SECONDS


class Store(MemoryStore):
    """Gives short pages, and counts its reads."""

    def __init__(self, page_size: int = 1_000) -> None:
        super().__init__(unauthenticated_cap=1_000)
        self.page_size = page_size
        self.pages_read = 0
        self.logs_open = 0
        self.events_read = 0

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        self.pages_read += 1
        # As a store that searches all records, and may find none on a page.
        page = await super().page(ALL, after=after, size=min(size, self.page_size))
        return Page([record for record in page.records if which.matches(record)], page.next)

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


@pytest.fixture
def office(clock: Clock) -> Office:
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


async def reason(admin: SessionAdmin, which: RecordFilter, **more: object) -> Reason:
    with pytest.raises(AuthError) as caught:
        await admin.sessions.page(which, **more)  # type: ignore[arg-type] # any argument
    return caught.value.reason


# Lists.


async def test_a_page_is_filled_from_short_ones(office: Office) -> None:
    office.store.page_size = 3
    subjects = ["bob"] * 10 + ["alice"] * 4
    await fill(
        office,
        *(record(f"s{n:02}", subject=who, now=START + n) for n, who in enumerate(subjects)),
    )
    office.clock.advance(100)
    listing = await office.admin.sessions.page(RecordFilter(subject="bob"), size=5)
    assert [it.id for it in listing.records] == ["s09", "s08", "s07", "s06", "s05"]
    rest = await office.admin.sessions.page(
        RecordFilter(subject="bob"), size=50, page_token=listing.next_page_token
    )
    assert [it.id for it in rest.records] == ["s04", "s03", "s02", "s01", "s00"]
    assert rest.next_page_token == ""


async def test_a_page_reads_a_bounded_part_of_the_store(office: Office) -> None:
    office.store.page_size = 1
    await fill(office, *(record(f"s{n:03}", now=START + n) for n in range(MAX_STORE_PAGES + 5)))
    nobody = RecordFilter(subject="nobody")
    listing = await office.admin.sessions.page(nobody)
    assert listing.records == []
    assert office.store.pages_read == MAX_STORE_PAGES
    # Empty, and not the end.
    assert listing.next_page_token
    rest = await office.admin.sessions.page(nobody, page_token=listing.next_page_token)
    assert (rest.records, rest.next_page_token) == ([], "")


async def test_expired_sessions_are_not_listed(office: Office) -> None:
    await fill(office, record("old"), record("new", now=START + 1))
    office.clock.advance(3600)
    listing = await office.admin.sessions.page(ALL)
    assert [it.id for it in listing.records] == ["new"]
    office.clock.advance(1)
    assert (await office.admin.sessions.page(ALL)).records == []


async def test_a_page_token_goes_with_its_filter(office: Office) -> None:
    await fill(office, *(record(f"s{n}", now=START + n) for n in range(3)))
    token = (await office.admin.sessions.page(ALL, size=1)).next_page_token
    for other in (
        RecordFilter(issuer="idp"),
        RecordFilter(subject="idp"),
        RecordFilter(resource="idp"),
        RecordFilter(authenticated=True),
        RecordFilter(authenticated=False),
    ):
        assert await reason(office.admin, other, page_token=token) is Reason.ARGUMENT_INVALID
        own = (await office.admin.sessions.page(other, size=1)).next_page_token
        assert not own or own != token


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
async def test_invalid_page_sizes(office: Office, size: int) -> None:
    assert await reason(office.admin, ALL, size=size) is Reason.ARGUMENT_INVALID


async def test_counts_report_that_they_are_truncated(office: Office) -> None:
    await fill(office, record("s1"), record("s2", subject=""))
    assert (await office.admin.status.read(count_sessions=True)).sessions == SessionCounts(1, 1, 0)
    office.store.page_size = 1
    counts = (await office.admin.status.read(count_sessions=True)).sessions
    assert counts is not None
    assert counts.truncated


# Revocations.


async def test_many_sessions_do_not_delay_a_revocation(office: Office) -> None:
    office.store.page_size = 1
    await fill(office, *(record(f"s{n}", now=START + n / 1000) for n in range(MAX_COUNT_PAGES + 1)))
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert office.store.pages_read == MAX_COUNT_PAGES
    assert revoked.session_count is None
    assert revoked.not_before is not None
    assert revoked.not_before.time == START + 1
    assert COUNT_PAGE_SIZE * MAX_COUNT_PAGES == 100_000


async def test_an_issuer_that_is_not_configured_is_revoked_on_request_alone(
    office: Office,
) -> None:
    """A misspelt issuer would revoke nothing and look like a success."""
    position = await office.store.position()
    for attempt in (
        office.admin.revocations.revoke(SubjectTarget("ipd", "alice"), caller="op"),
        office.admin.revocations.revoke(TokenTarget("ipd", "j1"), caller="op"),
    ):
        with pytest.raises(AuthError) as caught:
            await attempt
        assert caught.value.reason is Reason.ARGUMENT_INVALID
        assert caught.value.detail == "'ipd' is not configured; these are: idp"
    assert await office.store.position() == position

    for revoked in (
        await office.admin.revocations.revoke(
            SubjectTarget("ipd", "alice"), caller="op", allow_unknown_issuer=True
        ),
        await office.admin.revocations.revoke(
            TokenTarget("ipd", "j1"), caller="op", allow_unknown_issuer=True
        ),
    ):
        assert revoked.not_before is not None
        assert revoked.not_before.issuer == "ipd"


async def test_the_newest_token_known_counts_wherever_it_is(office: Office) -> None:
    ahead = Grant(b"d" * 32, START + 25, START + 600)
    grants = MappingProxyType({"https://b.example/mcp": ahead})
    # The session has expired or ended: its token may be presented on another session.
    gone = record("gone", now=START - 7200, grants=grants)
    ended = record("ended", revoke_time=START, grants=MappingProxyType({}))
    await fill(office, gone, ended, record("here"), record("bobs", subject="bob", now=START + 29))
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.not_before == NotBefore(START + 25, START, issuer="idp", subject="alice")
    assert revoked.session_count == 1


async def test_a_principal_session_counts_while_it_lives(office: Office) -> None:
    await fill(
        office,
        record("~dead", revoke_time=START),
        record("~alive", revoke_time=START - 1),
    )
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.session_count == 1


async def test_a_revocation_that_fails_is_not_audited(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.store.close()
    with pytest.raises(AuthError) as caught:
        await office.admin.revocations.revoke(EveryoneTarget(), caller="op")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert not caplog.records


async def test_empty_names_are_not_everyone(office: Office) -> None:
    for work in (
        office.admin.revocations.revoke(SubjectTarget("", ""), caller="op"),
        office.admin.revocations.revoke(TokenTarget("", ""), caller="op"),
    ):
        with pytest.raises(AuthError) as caught:
            await work
        assert caught.value.reason is Reason.ARGUMENT_INVALID
    not_befores = office.store.cached_not_befores()
    assert not_befores is not None
    assert EVERYONE not in {not_before.key for not_before in not_befores}


async def test_expired_data_is_removed(office: Office) -> None:
    limits = Limits(not_befores_kept_seconds=1_000)
    await fill(office, record("s"))
    await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    margin = NOT_BEFORES_MARGIN_SECONDS
    for now, kept in ((3_599.0, True), (3_600.0, False)):
        await tidy(office.store, now=START + now, limits=limits)
        assert (await office.store.get("s") is not None) is kept
    # Its tokens have expired by then, by any clock.
    for now, kept in ((1_000.0 + margin, True), (1_000.5 + margin, False)):
        await tidy(office.store, now=START + now, limits=limits)
        assert (len(await office.store.get_not_befores([("idp", "alice", "")])) == 1) is kept


# Watches.


async def happen(office: Office, count: int) -> None:
    for number in range(count):
        await fill(office, record(f"s{number}", subject=f"u{number}"))


async def test_a_watch_has_all_events_since_it_began(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        # No event has been read yet.
        await happen(office, 3)
        assert [_id(await anext(events)) for _ in range(3)] == ["s0", "s1", "s2"]


async def test_a_slow_reader_does_not_fill_the_memory(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        await happen(office, 100)
        await anext(events)
        for _ in range(100):
            await asyncio.sleep(0)
        assert office.store.events_read <= 2


async def test_a_watch_closes_the_log(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        for ending in ("left", "failed", "cancelled", "never read"):
            async with office.admin.watches.watching(ALL):
                await asyncio.sleep(0)
                assert office.store.logs_open == 1
            assert office.store.logs_open == 0, ending
            task = asyncio.create_task(_watch(office.admin, ending))
            await asyncio.sleep(0)
            await happen_once(office, ending)
            if ending == "cancelled":
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert office.store.logs_open == 0, ending


async def _watch(admin: SessionAdmin, ending: str) -> None:
    async with admin.watches.watching(ALL) as watch:
        if ending == "never read":
            return
        async for _ in watch.events:
            if ending == "left":
                return
            if ending == "failed":
                raise RuntimeError("as asked for")


async def happen_once(office: Office, name: str) -> None:
    await asyncio.sleep(0)
    await fill(office, record(name))
    await asyncio.sleep(0)


async def test_watchers_are_bounded(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        watches = [office.admin.watches.watching(ALL) for _ in range(MAX_WATCHERS)]
        for watch in watches:
            await watch.__aenter__()
        with pytest.raises(AuthError) as caught:
            async with office.admin.watches.watching(ALL):
                pass
        assert caught.value.reason is Reason.OVERLOADED
        for watch in watches:
            await watch.__aexit__(None, None, None)
        async with office.admin.watches.watching(ALL):
            pass
    assert office.store.logs_open == 0


async def test_a_stop_ends_watches_at_once(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        office.stopping.set()
        with pytest.raises(AuthError) as caught:
            await waiting
    assert caught.value.reason is Reason.SERVICE_UNAVAILABLE


async def test_an_unavailable_store_ends_watches(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await office.store.close()
        with pytest.raises(AuthError) as caught:
            await waiting
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def _id(logged: LoggedEvent) -> str:
    assert logged.event.record is not None
    return logged.event.record.id


# Messages.


@pytest.mark.parametrize(
    "event",
    [
        SessionEvent(EventType.CREATED, START, record("s")),
        SessionEvent(EventType.REVOKED, START + 5, record("s", revoke_time=START + 5)),
        SessionEvent(EventType.EXPIRED, START, record("s", subject="")),
        SessionEvent(EventType.TOKENS_REVOKED, START, not_before=NotBefore(START - 1, START)),
        SessionEvent(
            EventType.TOKENS_REVOKED, START, not_before=NotBefore(START - 1, START, "idp", "alice")
        ),
    ],
)
def test_an_event_survives_the_wire_but_for_digests(event: SessionEvent) -> None:
    message = admin_wire.event_message("7", event)
    assert message.resume_token == "7"
    assert b"dddd" not in message.SerializeToString()
    told = event.record and replace(
        event.record,
        grants={name: replace(grant, digest=b"") for name, grant in event.record.grants.items()},
    )
    assert admin_wire.event_of(message) == replace(event, record=told)


@pytest.mark.parametrize("authenticated", [None, True, False])
def test_a_filter_survives_the_wire(authenticated: bool | None) -> None:
    which = RecordFilter("idp", "alice", authenticated, "https://a.example/mcp")
    assert admin_wire.filter_of(admin_wire.filter_message(which)) == which


def test_an_event_of_a_later_version_is_skipped() -> None:
    message = pb.WatchSessionsResponse(resume_token="7", type=pb.SessionEventType.ValueType(99))
    assert admin_wire.event_of(message) is None
