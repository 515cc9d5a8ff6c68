"""The contract of ``SessionStore``, for every store. A new store is added to ``STORES``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import time as now
from types import MappingProxyType
from typing import get_args

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import END_OF_TIME, NotBefore
from authsvc.domain.service_status import SessionCounts
from authsvc.server.config.store import StoreKind
from authsvc.stores import LoggedEvent, Page, SessionStore
from authsvc.stores.documents import MAX_DOCUMENT_BYTES, Document
from authsvc.stores.memory import MemoryStore
from authsvc.stores.redis.server import RedisServer, server_at
from authsvc.stores.redis.store import RedisStore
from authsvc.stores.sqlite import SqliteStore
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.shared_valkey import fresh_prefix, let_go, shared_cluster, shared_valkey

pytestmark = pytest.mark.anyio

CAP = 3
ALL = RecordFilter()

WAIT_SECONDS = TIMEOUT_SECONDS
POLL_SECONDS = 0.01

GRANT = Grant(bytes(range(32)), 1_800_000_000.125, 1_800_000_600.0, "jti", "client")

OpenStore = Callable[[Path], Awaitable[SessionStore]]


async def open_memory(folder: Path) -> SessionStore:
    return MemoryStore(unauthenticated_cap=CAP)


async def open_sqlite(folder: Path) -> SessionStore:
    return await SqliteStore.open(folder / "authsvc.db", unauthenticated_cap=CAP)


async def open_redis(folder: Path) -> SessionStore:
    server = replace(server_at(shared_valkey().url), timeout_seconds=TIMEOUT_SECONDS)
    return await RedisStore.open(server, prefix=fresh_prefix(), unauthenticated_cap=CAP)


async def open_redis_cluster(folder: Path) -> SessionStore:
    nodes = tuple(node.address for node in shared_cluster().primaries[:1])
    server = RedisServer(mode="cluster", nodes=nodes, timeout_seconds=TIMEOUT_SECONDS)
    cap = CAP * server.partitions
    return await RedisStore.open(server, prefix=fresh_prefix(), unauthenticated_cap=cap)


STORES: dict[str, OpenStore] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "redis": open_redis,
    "redis-cluster": open_redis_cluster,
}


def test_every_kind_of_store_is_tested_here() -> None:
    assert set(get_args(StoreKind)) <= set(STORES)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    async with AsyncExitStack() as stack:
        if request.param == "redis-cluster":
            stack.push_async_callback(let_go)
        opened = await STORES[request.param](tmp_path)
        stack.push_async_callback(opened.close)
        yield opened


def record(session_id: str = "s", *, subject: str = "alice", now: float = 100.0) -> Record:
    grants = {"https://mcp.example/mcp": GRANT} if subject else {}
    return Record(
        session_id,
        1,
        now,
        now,
        now + 50,
        "idp" if subject else "",
        subject,
        MappingProxyType(grants),
    )


async def put(
    store: SessionStore, record: Record, event: EventType = EventType.REAUTHENTICATED
) -> str | None:
    return await store.put(record, event)


def near(store: SessionStore, name: str) -> str:
    """An id that begins with ``name`` and shares a cap with all such ids: in a cluster, each of the
    partitions has its share of the cap."""
    if not isinstance(store, RedisStore):
        return name
    ids = (f"{name}-{number}" for number in count())
    return next(it for it in ids if store._partitions.of(it).number == 0)


def next_of(stored: Record, **changes: object) -> Record:
    return replace(stored, revision=stored.revision + 1, **changes)  # type: ignore[arg-type] # any field


async def test_an_unknown_record_is_none(store: SessionStore) -> None:
    assert await store.get("s") is None


@pytest.mark.parametrize(
    "stored",
    [
        record(),
        record(subject=""),
        replace(record(), revoke_time=123.456789),
        replace(record(), issuer="https://idp.example/ü?x=1'\"", subject="日本語 'quoted'"),
        replace(record(), create_time=1_800_000_000.123456, expire_time=1e-3),
        replace(
            record(),
            grants=MappingProxyType(
                {
                    "https://a.example/mcp": GRANT,
                    "https://b.example/mcp": Grant(b"\xff" * 32, 0.0, 1.5, "", ""),
                }
            ),
        ),
    ],
    ids=["authenticated", "unauthenticated", "revoked", "unicode", "times", "grants"],
)
async def test_put_then_get(store: SessionStore, stored: Record) -> None:
    assert await put(store, stored)
    assert await store.get("s") == stored


async def test_a_first_revision_is_put_once(store: SessionStore) -> None:
    assert await put(store, record())
    assert not await put(store, record(subject="bob"))
    assert await store.get("s") == record()


async def test_a_later_revision_needs_its_predecessor(store: SessionStore) -> None:
    first = record()
    second = next_of(first, subject="bob")
    assert not await put(store, second)
    assert await store.get("s") is None
    assert await put(store, first)
    assert not await put(store, next_of(second))
    assert await put(store, second)
    assert not await put(store, next_of(first, subject="carol"))
    assert await store.get("s") == second


async def test_compare_and_set_has_one_winner(store: SessionStore) -> None:
    await put(store, record())
    rivals = [next_of(record(), subject=f"rival-{number}") for number in range(20)]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        won = await asyncio.gather(*(put(store, rival) for rival in rivals))
    (winner,) = [rival for rival, token in zip(rivals, won, strict=True) if token is not None]
    assert await store.get("s") == winner


async def test_no_update_is_lost(store: SessionStore) -> None:
    await put(store, record())

    async def increment() -> None:
        while True:
            stored = await store.get("s")
            assert stored is not None
            if await put(store, next_of(stored, create_time=stored.create_time + 1)):
                return

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(increment() for _ in range(30)))
    stored = await store.get("s")
    assert stored is not None
    assert (stored.revision, stored.create_time) == (31, 130.0)


async def test_a_touch_moves_two_times_and_nothing_else(store: SessionStore) -> None:
    await put(store, record())
    seen = replace(record(), last_seen_time=110.0, expire_time=160.0, subject="mallory", issuer="x")
    await store.touch(seen)
    expected = replace(record(), last_seen_time=110.0, expire_time=160.0)
    async with asyncio.timeout(TIMEOUT_SECONDS):  # a touch is not waited for
        while await store.get("s") != expected:  # noqa: ASYNC110 - of another process, perhaps
            await asyncio.sleep(0)


async def test_a_touch_of_another_revision_does_nothing(store: SessionStore) -> None:
    await put(store, record())
    second = next_of(record())
    await put(store, second)
    await store.touch(replace(record(), expire_time=1e9))
    await store.touch(replace(record("unknown"), expire_time=1e9))
    await put(store, record("other"))
    assert await store.get("s") == second
    assert await store.get("unknown") is None


async def test_a_removal_needs_the_revision(store: SessionStore) -> None:
    await put(store, record())
    second = next_of(record())
    await put(store, second)
    await store.remove(record())
    assert await store.get("s") == second
    await store.remove(second)
    assert await store.get("s") is None
    await store.remove(second)
    assert await put(store, record())


async def test_a_session_created_again_is_another_one(store: SessionStore) -> None:
    old, anew = record(now=100.0), record(subject="bob", now=200.0)
    await put(store, old)
    await store.remove(old)
    await put(store, anew)
    await store.remove(old)
    await store.touch(replace(old, expire_time=1e9))
    assert not await put(store, next_of(old))
    assert await store.get("s") == anew
    # One that begins anew in place, as principal sessions do, goes on from what it replaces.
    assert await put(store, next_of(anew, create_time=300.0))


async def test_a_sweep_removes_what_has_expired(store: SessionStore) -> None:
    for number in range(5):
        await put(store, record(f"s{number}", now=100.0 + number))
    assert await store.sweep(149.9) == 0
    assert await store.sweep(152.0) == 3
    assert [await store.get(f"s{number}") is not None for number in range(5)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert await store.sweep(152.0) == 0


async def test_an_expired_record_is_got_until_it_is_swept(store: SessionStore) -> None:
    expired = replace(record(), expire_time=1.0)
    await put(store, expired)
    assert await store.get("s") == expired


async def test_the_oldest_unauthenticated_go_first(store: SessionStore) -> None:
    for number in range(CAP + 2):
        await put(store, record(near(store, f"a{number}"), subject="", now=100.0))
        await put(store, record(f"b{number}"))
    kept = [await store.get(near(store, f"a{number}")) is not None for number in range(CAP + 2)]
    assert kept == [False, False, True, True, True]
    assert all([await store.get(f"b{number}") for number in range(CAP + 2)])


async def test_an_upgraded_record_frees_its_place(store: SessionStore) -> None:
    for number in range(CAP):
        await put(store, record(near(store, f"a{number}"), subject="", now=100.0 + number))
    await put(store, next_of(record(near(store, "a0"), subject=""), subject="alice", issuer="idp"))
    await put(store, record(near(store, "late"), subject="", now=200.0))
    for name in ("a0", "a1", "a2", "late"):
        assert await store.get(near(store, name)) is not None
    await put(store, record(near(store, "later"), subject="", now=201.0))
    assert await store.get(near(store, "a0")) is not None
    assert await store.get(near(store, "a1")) is None


async def test_a_removed_record_frees_its_place(store: SessionStore) -> None:
    for number in range(CAP):
        await put(store, record(near(store, f"a{number}"), subject="", now=100.0 + number))
    await store.remove(record(near(store, "a2"), subject="", now=102.0))
    await put(store, record(near(store, "late"), subject="", now=200.0))
    assert await store.get(near(store, "a0")) is not None


async def test_a_closed_store_is_unavailable(store: SessionStore) -> None:
    await put(store, record())
    await store.close()
    await store.close()
    for call in (
        store.get("s"),
        put(store, record("t")),
        store.remove(record()),
        store.sweep(0.0),
        store.is_received("key"),
        store.mark_received("key", 2e9),
    ):
        with pytest.raises(AuthError) as caught:
            await call
        assert caught.value.reason is Reason.STORE_UNAVAILABLE


# The cache.


async def test_a_written_record_is_cached_or_read_from_the_store(store: SessionStore) -> None:
    stored = record()
    for _ in range(50):
        token = await put(store, stored)
        assert token is not None
        # The cache may be empty. With the token, it answers nothing older than the write.
        assert store.cached_record("s", token) in (None, stored)
        assert await store.get("s") == stored
        stored = next_of(stored, create_time=stored.create_time + 1)


async def test_the_cache_learns_of_writes(store: SessionStore) -> None:
    token = await put(store, record())
    assert token is not None
    await cached_record(store, "s", token)
    await store.remove(record())
    assert await store.get("s") is None
    await eventually(lambda: store.cached_record("s") is None)


async def test_an_unreadable_consistency_token_bypasses_the_cache(
    store: SessionStore,
) -> None:
    token = await put(store, record())
    assert token is not None
    await cached_record(store, "s", token)
    for strange in ("rubbish", "-1", "9" * 60, "1-1", "٣", "\x00"):
        assert store.cached_record("s", strange) in (None, record())


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition of which the store does not notify."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(POLL_SECONDS)


async def cached_record(store: SessionStore, session_id: str, token: str) -> Record:
    """The cached record, once there is one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := store.cached_record(session_id, token)) is None:
            await store.get(session_id)
            await asyncio.sleep(POLL_SECONDS)
    return found


# Lists.


async def listed(
    store: SessionStore, which: RecordFilter = ALL, *, size: int = 2
) -> list[tuple[float, str]]:
    """``create_time`` and id of each record, page by page."""
    found: list[Record] = []
    after = ""
    for _ in range(100):
        page = await store.page(which, after=after, size=size)
        assert len(page.records) <= size
        found += page.records
        after = page.next
        if not after:
            return [(it.create_time, it.id) for it in found]
    raise AssertionError("a list without an end")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_list_is_newest_first_then_by_id_last_first(store: SessionStore, size: int) -> None:
    made = [
        *((100.0, name) for name in ("a", "b", "bb", "ba", "B")),
        *((100.5, "~"), (1.8e9, "c"), (99.0, "d")),
    ]
    for time, session_id in made:
        await put(store, record(session_id, now=time))
    assert await listed(store, size=size) == sorted(made, reverse=True)


async def test_an_empty_list(store: SessionStore) -> None:
    assert await store.page(ALL, size=10) == Page([], "")


async def test_a_list_has_the_records_that_match(store: SessionStore) -> None:
    other = MappingProxyType({"https://else.example/mcp": GRANT})
    await put(store, record("anonymous", subject="", now=100.0))
    await put(store, record("alices", now=101.0))
    await put(store, replace(record("elsewhere", now=102.0), grants=other))
    await put(store, replace(record("namesake", now=103.0), issuer="other idp"))
    await put(store, replace(record("ended", subject="bob", now=104.0), revoke_time=104.0))
    for which, expected in (
        (RecordFilter(issuer="idp"), ["ended", "elsewhere", "alices"]),
        (RecordFilter(subject="alice"), ["namesake", "elsewhere", "alices"]),
        (RecordFilter(issuer="idp", subject="alice"), ["elsewhere", "alices"]),
        (RecordFilter(issuer="idp", subject="nobody"), []),
        (RecordFilter(authenticated=False), ["anonymous"]),
        (RecordFilter(authenticated=True), ["ended", "namesake", "elsewhere", "alices"]),
        (RecordFilter(resource="https://else.example/mcp"), ["elsewhere"]),
        (RecordFilter("idp", "alice", True, "https://mcp.example/mcp"), ["alices"]),
        (RecordFilter("idp", "alice", False), []),
        (RecordFilter(id_prefix="e"), ["ended", "elsewhere"]),
        (RecordFilter("idp", "alice", id_prefix="else"), ["elsewhere"]),
        (RecordFilter(id_prefix="elsewhere-and-more"), []),
    ):
        assert [name for _, name in await listed(store, which)] == expected


async def test_a_list_has_the_current_records(store: SessionStore) -> None:
    await put(store, record("s", subject=""))
    await put(store, record("gone"))
    second = next_of(record("s"), subject="bob", issuer="idp", revoke_time=120.0)
    await put(store, second)
    await store.remove(record("gone"))
    page = await store.page(ALL, size=10)
    assert page.records == [second]
    assert await listed(store, RecordFilter(issuer="idp", subject="alice")) == []


async def test_a_page_ends_where_it_ended_whatever_happens_meanwhile(store: SessionStore) -> None:
    for number in range(6):
        await put(store, record(f"s{number}", now=100.0 + number))
    page = await store.page(ALL, size=3)
    assert [it.id for it in page.records] == ["s5", "s4", "s3"]
    await store.remove(page.records[-1])
    await put(store, record("new", now=200.0))
    rest = await store.page(ALL, after=page.next, size=3)
    assert [it.id for it in rest.records] == ["s2", "s1", "s0"]


@pytest.mark.parametrize("after", ["rubbish", " ", "1", "x y", "1.5 ", "nan x", "inf x"])
async def test_a_page_token_of_another_list_is_rejected(store: SessionStore, after: str) -> None:
    for which in (ALL, RecordFilter("idp", "alice")):
        with pytest.raises(AuthError) as caught:
            await store.page(which, after=after, size=10)
        assert caught.value.reason is Reason.ARGUMENT_INVALID


async def test_the_records_of_a_subject(store: SessionStore) -> None:
    """No more of them are read than are asked for."""
    of_alice = [record(f"s{number}", now=100.0 + number) for number in range(5)]
    others = [record("bobs", subject="bob"), record("nobodys", subject="")]
    for each in (*of_alice, *others):
        await put(store, each)
    for most in range(7):
        found = await store.records_of("idp", "alice", most=most)
        assert len(found) == min(most, 5)
        assert len({it.id for it in found}) == len(found)
        assert all(it in of_alice for it in found)
    assert await store.records_of("other", "alice", most=10) == []
    assert await store.records_of("idp", "carol", most=10) == []


async def test_records_are_found_by_the_beginning_of_their_id(store: SessionStore) -> None:
    """In the order of every list, whatever the bytes around the prefix, page by page."""
    ids = [
        "abc",
        "abC",
        "ab",
        "abcd",
        "abc~",
        "abc\x7f",
        "abd",
        "aBc",
        "~abc",
        "~abd",
        "%bc",
        "_bc",
    ]
    times = {name: 100.0 + number % 3 for number, name in enumerate(ids)}
    for name, time in times.items():
        await put(store, record(name, now=time, subject="" if name == "abcd" else "alice"))
    for prefix in (
        "a",
        "abc",
        "ab",
        "~",
        "~ab",
        "%",
        "_",
        "abc\x7f",
        "abcde",
        "b",
        "é",
        "abc\U0010ffff",
    ):
        expected = sorted(((times[it], it) for it in ids if it.startswith(prefix)), reverse=True)
        for size in (1, 2, 100):
            assert await listed(store, RecordFilter(id_prefix=prefix), size=size) == expected
    anonymous = RecordFilter(id_prefix="abc", authenticated=False)
    assert await listed(store, anonymous, size=1) == [(times["abcd"], "abcd")]


async def test_a_search_by_prefix_has_no_removed_record(store: SessionStore) -> None:
    for number in range(CAP + 1):
        name = near(store, f"cap-{number}")
        await put(store, record(name, subject="", now=100.0 + number))
    await put(store, record("cap-removed", now=110.0))
    await store.remove(record("cap-removed", now=110.0))
    await put(store, record("cap-swept", now=10.0))
    await store.sweep(60.0)
    await put(store, next_of(record(near(store, "cap-1"), subject="", now=101.0), subject="bob"))
    found = [name for _, name in await listed(store, RecordFilter(id_prefix="cap-"))]
    assert found == [near(store, f"cap-{number}") for number in range(CAP, 0, -1)]


async def test_a_prefix_that_many_ids_have_is_searched_too(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.stores.redis.listing.PREFIX_LIMIT", 1)
    for backend in ("redis", "sqlite"):
        monkeypatch.setattr(f"authsvc.stores.{backend}.listing.SCAN_LIMIT", 4)
    names = [f"same-{number}" for number in range(12)]
    for number, name in enumerate(names):
        await put(store, record(name, now=100.0 + number))
        await put(store, record(f"other-{number}", now=100.5 + number))
    for size in (1, 3, 5):
        found = [
            name for _, name in await listed(store, RecordFilter(id_prefix="same-"), size=size)
        ]
        assert found == names[::-1]


# Counts.


async def test_an_empty_store_counts_nothing(store: SessionStore) -> None:
    assert await store.count(0.0) == SessionCounts()


async def test_a_record_is_counted_by_its_state_until_it_expires(store: SessionStore) -> None:
    first = record("a", subject="")
    await put(store, first)
    await put(store, record("b", now=101.0))
    assert await store.count(100.0) == SessionCounts(1, 1, 0)
    assert await store.count(149.9) == SessionCounts(1, 1, 0)
    assert await store.count(150.0) == SessionCounts(0, 1, 0)
    bound = next_of(first, subject="bob", issuer="idp", expire_time=160.0)
    await put(store, bound)
    assert await store.count(155.0) == SessionCounts(0, 1, 0)
    await put(store, next_of(bound, revoke_time=110.0, expire_time=170.0))
    assert await store.count(100.0) == SessionCounts(0, 1, 1)
    assert await store.count(169.9) == SessionCounts(0, 0, 1)
    assert await store.count(170.0) == SessionCounts()
    assert await store.sweep(170.0) == 2
    assert await store.count(0.0) == SessionCounts()


@pytest.mark.parametrize("subject", ["", "alice", 'null]\n,"', "~", "é,5.0]"])
async def test_a_session_is_revoked_whoever_it_is_of(store: SessionStore, subject: str) -> None:
    first = record("s", subject=subject)
    await put(store, first)
    assert await store.count(100.0) == SessionCounts(int(not subject), int(bool(subject)), 0)
    revoked = next_of(first, revoke_time=110.125, expire_time=300.0)
    await put(store, revoked)
    assert await store.count(100.0) == SessionCounts(revoked=1)
    await store.touch(replace(revoked, expire_time=400.0))
    async with asyncio.timeout(TIMEOUT_SECONDS):  # a touch is not waited for
        while await store.count(399.0) != SessionCounts(revoked=1):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    await store.remove(revoked)
    assert await store.count(0.0) == SessionCounts()


@pytest.mark.parametrize(
    ("issue_times", "is_revoked"),
    [((), True), ((109.0, 110.0), True), ((109.0, 110.000001), False), ((1.8e9,), False)],
)
async def test_a_principal_session_is_revoked_until_a_later_token(
    store: SessionStore, issue_times: tuple[float, ...], is_revoked: bool
) -> None:
    grants = {
        f"https://{number}.example/mcp": replace(GRANT, issue_time=time)
        for number, time in enumerate(issue_times)
    }
    principal = replace(record("~p"), revoke_time=110.0, grants=MappingProxyType(grants))
    await put(store, principal)
    await put(store, replace(principal, id="not-a-principal"))
    expected = SessionCounts(authenticated=int(not is_revoked), revoked=1 + is_revoked)
    assert await store.count(100.0) == expected


async def test_the_space_that_a_store_writes_to(store: SessionStore) -> None:
    space = await store.space()
    if isinstance(store, MemoryStore):
        assert space is None
        return
    assert space is not None
    is_file = isinstance(store, SqliteStore)
    assert (space.kind, space.persistence_ok) == (("disk", None) if is_file else ("memory", True))
    assert space.used_bytes > 0
    assert (space.limit_bytes or 0) >= space.used_bytes or not is_file
    assert (space.limit_bytes is None) is not is_file  # maxmemory is not set


async def test_a_touch_counts(store: SessionStore) -> None:
    for name, subject in (("a", ""), ("b", "alice")):
        await put(store, record(name, subject=subject))
        await store.touch(replace(record(name, subject=subject), expire_time=160.0))
    async with asyncio.timeout(TIMEOUT_SECONDS):  # a touch is not waited for
        while await store.count(155.0) != SessionCounts(1, 1, 0):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


async def test_what_the_cap_removes_is_not_counted(store: SessionStore) -> None:
    for number in range(CAP + 2):
        name = near(store, f"a{number}")
        await put(store, record(name, subject="", now=100.0 + number))
    assert await store.count(100.0) == SessionCounts(unauthenticated=CAP)


# Not-befores.

OF_ALICE = NotBefore(100.0, 150.0, issuer="idp", subject="alice")
OF_J1 = NotBefore(END_OF_TIME, 150.0, issuer="idp", token_id="j1")
OF_SESSION = NotBefore(100.5, 150.0, "idp", provider_session=session_digest("idp", "sid"))
OF_NO_SESSION = NotBefore(100.25, 150.0, "idp", "alice", provider_session=NO_PROVIDER_SESSION)
OF_EVERYONE = NotBefore(99.125, 151.0)
NOT_BEFORES = (OF_ALICE, OF_J1, OF_SESSION, OF_NO_SESSION, OF_EVERYONE)


async def test_a_not_before_is_in_force(store: SessionStore) -> None:
    for not_before in NOT_BEFORES:
        token = await store.set_not_before(not_before)
        assert [
            it for it in await store.get_not_befores([not_before.key]) if it.key == not_before.key
        ] == [not_before]
        remembered = store.cached_not_befores(token)
        assert remembered is None or not_before in list(remembered)
    await eventually(lambda: store.cached_not_befores(token) is not None)
    in_force = {it.key: it for it in NOT_BEFORES}
    assert {it.key: it for it in store.cached_not_befores(token) or ()} == in_force
    found = await store.get_not_befores(list(in_force))
    assert {it.key: it for it in found} == in_force


async def test_the_later_of_two_not_befores_applies(store: SessionStore) -> None:
    await store.set_not_before(OF_ALICE)
    await store.set_not_before(replace(OF_ALICE, time=99.0, set_time=200.0))
    await store.set_not_before(replace(OF_ALICE, subject="bob", time=50.0))
    assert OF_ALICE in list(await store.get_not_befores([OF_ALICE.key]))
    later = replace(OF_ALICE, time=100.5, set_time=201.0)
    await store.set_not_before(later)
    assert later in list(await store.get_not_befores([OF_ALICE.key]))


async def test_keys_whose_concatenation_is_equal_are_distinct(store: SessionStore) -> None:
    names = [
        ("a", "bc", "", ""),
        ("ab", "c", "", ""),
        ("a", "", "bc", ""),
        ("a", "", "", "bc"),
        ("a", "bc", "", NO_PROVIDER_SESSION),
        ("a", "bc", NO_PROVIDER_SESSION, ""),
        ("", "", "", ""),
        ("a ü\n", "日本", "", ""),
        ('a","', '"', "", '","'),
    ]
    for number, name in enumerate(names):
        await store.set_not_before(NotBefore(100.0 + number, 150.0, *name))
    not_befores = {it.key: it.time for it in await store.get_not_befores(names)}
    assert not_befores == {name: 100.0 + number for number, name in enumerate(names)}


async def test_a_not_before_leaves_the_records_alone(store: SessionStore) -> None:
    await put(store, record())
    await store.set_not_before(OF_ALICE)
    await store.set_not_before(OF_EVERYONE)
    assert await store.get("s") == record()


async def test_not_befores_that_were_set_long_ago_are_deleted(store: SessionStore) -> None:
    for not_before in NOT_BEFORES:
        await store.set_not_before(not_before)
    keys = [it.key for it in NOT_BEFORES]
    await store.delete_not_befores(150.0)
    assert len(await store.get_not_befores(keys)) == len(NOT_BEFORES)
    await store.delete_not_befores(150.5)
    assert list(await store.get_not_befores(keys)) == [OF_EVERYONE]
    remembered = store.cached_not_befores()
    assert remembered is None or list(remembered) == [OF_EVERYONE]


# The log.


async def told(store: SessionStore, position: str, count: int) -> list[LoggedEvent]:
    """So many events after a position."""
    found: list[LoggedEvent] = []
    async with asyncio.timeout(WAIT_SECONDS), aclosing(store.watch(position)) as log:
        async for logged in log:
            found.append(logged)
            if len(found) == count:
                return found
    raise AssertionError("a log that ends")


async def test_each_write_is_logged_with_its_record(store: SessionStore) -> None:
    position = await store.position()
    created = record("s", subject="")
    bound = next_of(created, subject="alice", issuer="idp", last_seen_time=110.0)
    ended = next_of(bound, revoke_time=120.0, expire_time=900.0)
    for written, event_type in (
        (created, EventType.CREATED),
        (bound, EventType.REAUTHENTICATED),
        (ended, EventType.REVOKED),
    ):
        assert await store.put(written, event_type) is not None
        assert await store.put(written, event_type) is None  # too late, and not logged
        await store.touch(replace(written, last_seen_time=130.0))  # not logged, either
    await store.remove(ended)
    await store.remove(ended)
    await put(store, record("s", now=300.0), EventType.CREATED)
    events = [it.event for it in await told(store, position, 5)]
    assert [(event.type, event.time) for event in events] == [
        (EventType.CREATED, 100.0),
        (EventType.REAUTHENTICATED, 110.0),
        (EventType.REVOKED, 120.0),
        (EventType.EXPIRED, 900.0),
        (EventType.CREATED, 300.0),
    ]
    assert [event.record for event in events[:3]] == [created, bound, ended]
    assert events[3].record is not None
    assert (events[3].record.id, events[3].record.revision) == ("s", 3)


async def test_swept_records_are_logged(store: SessionStore) -> None:
    position = await store.position()
    for number in range(3):
        await put(store, record(f"s{number}", now=1_000.0 + number), EventType.CREATED)
    assert await store.sweep(1_051.0) == 2
    events = [it.event for it in await told(store, position, 5)]
    gone = {it.record.id for it in events if it.type is EventType.EXPIRED and it.record}
    assert gone == {"s0", "s1"}


async def test_records_removed_by_the_cap_are_logged(store: SessionStore) -> None:
    position = await store.position()
    for number in range(CAP + 1):
        name = near(store, f"s{number}")
        await put(store, record(name, subject="", now=100.0 + number), EventType.CREATED)
    events = [it.event for it in await told(store, position, CAP + 2)]
    (gone,) = [event.record for event in events if event.type is EventType.EXPIRED]
    assert gone is not None
    assert gone.id == near(store, "s0")


async def test_a_not_before_is_logged(store: SessionStore) -> None:
    position = await store.position()
    for not_before in NOT_BEFORES:
        await store.set_not_before(not_before)
    events = [it.event for it in await told(store, position, len(NOT_BEFORES))]
    assert events == [
        SessionEvent(EventType.TOKENS_REVOKED, it.set_time, not_before=it) for it in NOT_BEFORES
    ]


async def test_an_event_without_a_write_is_logged(store: SessionStore) -> None:
    await put(store, record())
    position = await store.position()
    event = SessionEvent(EventType.SUBJECT_MISMATCH, 123.5, record())
    await store.append(event)
    assert [it.event for it in await told(store, position, 1)] == [event]
    assert await store.get("s") == record()


async def test_a_watch_has_no_event_before_its_position(store: SessionStore) -> None:
    for number in range(5):
        await put(store, record(f"before{number}"), EventType.CREATED)
    position = await store.position()
    assert position
    assert position == await store.position()
    for number in range(5):
        await put(store, record(f"s{number}"), EventType.CREATED)
    ids = {it.event.record.id for it in await told(store, position, 5) if it.event.record}
    assert ids == {f"s{number}" for number in range(5)}


async def test_watching_goes_on_from_any_event(store: SessionStore) -> None:
    position = await store.position()
    for number in range(10):
        await put(store, record(f"s{number}"), EventType.CREATED)
    everything = await told(store, position, 10)
    names = {it.event.record.id for it in everything if it.event.record}
    assert len(names) == 10
    for index, logged in enumerate(everything[:-1]):
        rest = await told(store, logged.position, 9 - index)
        told_before = everything[: index + 1]
        assert {it.event.record.id for it in (*told_before, *rest) if it.event.record} == names


async def test_the_events_of_a_record_come_in_the_order_of_its_writes(store: SessionStore) -> None:
    position = await store.position()

    async def live(name: str) -> None:
        stored = record(name)
        for _ in range(5):
            await put(store, stored)
            stored = next_of(stored)

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(live(f"s{number}") for number in range(6)))
    revisions: dict[str, list[int]] = {}
    for logged in await told(store, position, 30):
        assert logged.event.record is not None
        revisions.setdefault(logged.event.record.id, []).append(logged.event.record.revision)
    assert revisions == {f"s{number}": [1, 2, 3, 4, 5] for number in range(6)}


async def test_watchers_do_not_disturb_each_other(store: SessionStore) -> None:
    position = await store.position()
    await put(store, record("s0"), EventType.CREATED)
    async with aclosing(store.watch(position)) as idle:
        async with asyncio.timeout(WAIT_SECONDS):
            await anext(idle)
            for number in range(1, 20):
                await put(store, record(f"s{number}"), EventType.CREATED)
        both = await asyncio.gather(told(store, position, 20), told(store, position, 20))
    for found in both:
        ids = {it.event.record.id for it in found if it.event.record}
        assert ids == {f"s{number}" for number in range(20)}


@pytest.mark.parametrize("position", ["rubbish", "-1", "1.5", "٣", " ", "1" * 5_000])
async def test_a_position_of_another_log_is_rejected(store: SessionStore, position: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS), aclosing(store.watch(position)) as log:
        with pytest.raises(AuthError) as caught:
            await anext(log)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


async def test_an_unknown_document_is_none(store: SessionStore) -> None:
    assert await store.document("keys") is None


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"1\n2\n", bytes(range(256)), b"\xff" * MAX_DOCUMENT_BYTES]
)
async def test_a_document_is_read_as_it_was_written(store: SessionStore, content: bytes) -> None:
    assert await store.put_document("keys", Document(1, content))
    assert await store.document("keys") == Document(1, content)
    await store.confirm_document("keys")
    assert await store.document("keys") == Document(1, content)
    assert await store.document("other") is None


def test_a_document_is_bounded() -> None:
    with pytest.raises(ValueError, match="65536 bytes at most"):
        Document(1, bytes(MAX_DOCUMENT_BYTES + 1))


def test_no_repr_shows_a_document() -> None:
    assert "secret" not in repr(Document(1, b"secret"))


@pytest.mark.parametrize("revision", [0, 2, 3])
async def test_a_first_document_is_revision_1(store: SessionStore, revision: int) -> None:
    assert not await store.put_document("keys", Document(revision, b"x"))
    assert await store.document("keys") is None


@pytest.mark.parametrize("revision", [0, 1, 2, 4, 12])
async def test_a_later_document_needs_its_predecessor(store: SessionStore, revision: int) -> None:
    assert await store.put_document("keys", Document(1, b"one"))
    assert await store.put_document("keys", Document(2, b"two"))
    assert not await store.put_document("keys", Document(revision, b"x"))
    assert await store.document("keys") == Document(2, b"two")
    assert await store.put_document("keys", Document(3, b"three"))
    assert await store.document("keys") == Document(3, b"three")


async def test_documents_do_not_disturb_each_other(store: SessionStore) -> None:
    assert await store.put_document("keys", Document(1, b"one"))
    assert await store.put_document("key", Document(1, b"other"))
    assert await store.put_document("keys", Document(2, b"two"))
    assert await store.document("key") == Document(1, b"other")


async def test_one_of_many_writes_of_a_document_wins(store: SessionStore) -> None:
    contents = [str(number).encode() for number in range(20)]
    async with asyncio.timeout(WAIT_SECONDS):
        written = await asyncio.gather(
            *(store.put_document("keys", Document(1, content)) for content in contents)
        )
    assert written.count(True) == 1
    assert await store.document("keys") == Document(1, contents[written.index(True)])


async def test_a_sweep_leaves_documents(store: SessionStore) -> None:
    await store.put_document("keys", Document(1, b"one"))
    await put(store, record())
    await store.sweep(END_OF_TIME)
    await store.delete_not_befores(END_OF_TIME)
    assert await store.document("keys") == Document(1, b"one")


async def test_a_document_is_in_no_list_and_no_log(store: SessionStore) -> None:
    position = await store.position()
    await store.put_document("keys", Document(1, b"one"))
    await put(store, record())
    assert (await store.page(ALL, size=10)).records == [record()]
    (logged,) = await told(store, position, 1)
    assert logged.event.record == record()


async def test_closing_the_store_ends_its_watches(store: SessionStore) -> None:
    async with asyncio.timeout(WAIT_SECONDS), aclosing(store.watch(await store.position())) as log:

        async def to_the_end() -> None:
            async for _ in log:
                pass

        watching = asyncio.create_task(to_the_end())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(AuthError) as caught:
            await watching
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_closed_store_answers_nothing(store: SessionStore) -> None:
    await put(store, record())
    await store.set_not_before(OF_ALICE)
    await store.close()
    assert store.cached_record("s") is None
    assert store.cached_not_befores() is None
    for call in (
        store.page(ALL, size=10),
        store.records_of("idp", "alice", most=10),
        store.count(0.0),
        store.space(),
        store.set_not_before(OF_ALICE),
        store.get_not_befores([OF_ALICE.key]),
        store.delete_not_befores(0.0),
        store.position(),
        store.document("keys"),
        store.confirm_document("keys"),
        store.put_document("keys", Document(1, b"")),
    ):
        with pytest.raises(AuthError) as caught:
            await call
        assert caught.value.reason is Reason.STORE_UNAVAILABLE


# Received messages.

LATER = 4_000_000_000.0
"""In the future of the server's clock, too: the keys of Valkey expire by it."""


async def test_a_message_is_received_once_it_is_marked(store: SessionStore) -> None:
    assert not await store.is_received("key")
    await store.mark_received("key", LATER)
    assert await store.is_received("key")
    for other in ("Key", "ke", "key2", ""):
        assert not await store.is_received(other)


async def test_a_mark_is_kept_until_its_time(store: SessionStore) -> None:
    await store.mark_received("key", LATER)
    await store.sweep(LATER - 1)
    assert await store.is_received("key")
    await store.sweep(LATER)
    assert await store.is_received("key") is isinstance(store, RedisStore)  # by the server's clock


async def test_of_two_marks_the_later_time_is_kept(store: SessionStore) -> None:
    for first, second in ((LATER, LATER + 10), (LATER + 10, LATER)):
        key = f"key-{first}"
        await store.mark_received(key, first)
        await store.mark_received(key, second)
        await store.sweep(LATER + 5)
        assert await store.is_received(key)


async def test_marks_and_documents_do_not_disturb_each_other(store: SessionStore) -> None:
    await store.mark_received("keys", LATER)
    assert await store.document("keys") is None
    assert await store.put_document("other", Document(1, b"x"))
    assert not await store.is_received("other")


async def test_the_clocks_of_its_servers(
    store: SessionStore, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["store"]
    began = now()
    times = await store.server_times()
    primaries = len(shared_cluster().primaries) if kind == "redis-cluster" else 1
    assert len(times) == (primaries if isinstance(store, RedisStore) else 0)
    # Of this machine, too; a server reads its own once in a while.
    assert all(began - 1 < it < now() + 1 for it in times)
