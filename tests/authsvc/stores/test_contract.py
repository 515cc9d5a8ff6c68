"""What ``SessionStore`` promises, on every store: to add one, add it to ``STORES``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

from authsvc.errors import AuthError, Reason
from authsvc.events import EventType
from authsvc.sessions import Grant, Record
from authsvc.stores import SessionStore
from authsvc.stores.memory import MemoryStore
from authsvc.stores.redis.server import RedisServer, server_at
from authsvc.stores.redis.store import RedisStore
from authsvc.stores.sqlite import SqliteStore
from tests.support.shared_valkey import fresh_prefix, shared_cluster, shared_valkey

pytestmark = pytest.mark.anyio

CAP = 3
GRANT = Grant(bytes(range(32)), 1_800_000_000.125, 1_800_000_600.0, "jti", "client")

OpenStore = Callable[[Path], Awaitable[SessionStore]]


async def open_memory(folder: Path) -> SessionStore:
    return MemoryStore(unauthenticated_cap=CAP)


async def open_sqlite(folder: Path) -> SessionStore:
    return await SqliteStore.open(folder / "authsvc.db", unauthenticated_cap=CAP)


async def open_redis(folder: Path) -> SessionStore:
    server = server_at(shared_valkey().url)
    return await RedisStore.open(server, prefix=fresh_prefix(), unauthenticated_cap=CAP)


async def open_redis_cluster(folder: Path) -> SessionStore:
    nodes = tuple(node.address for node in shared_cluster().primaries[:1])
    server = RedisServer(mode="cluster", nodes=nodes)
    cap = CAP * server.partitions
    return await RedisStore.open(server, prefix=fresh_prefix(), unauthenticated_cap=cap)


STORES: dict[str, OpenStore] = {
    "memory": open_memory,
    "sqlite": open_sqlite,
    "redis": open_redis,
    "redis-cluster": open_redis_cluster,
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    async with AsyncExitStack() as stack:
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
    return next(it for it in ids if store._partition_of(it).number == 0)


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
async def test_what_was_put_is_got(store: SessionStore, stored: Record) -> None:
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
    async with asyncio.timeout(30):
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

    async with asyncio.timeout(30):
        await asyncio.gather(*(increment() for _ in range(30)))
    stored = await store.get("s")
    assert stored is not None
    assert (stored.revision, stored.create_time) == (31, 130.0)


async def test_a_touch_moves_two_times_and_nothing_else(store: SessionStore) -> None:
    await put(store, record())
    seen = replace(record(), last_seen_time=110.0, expire_time=160.0, subject="mallory", issuer="x")
    await store.touch(seen)
    expected = replace(record(), last_seen_time=110.0, expire_time=160.0)
    async with asyncio.timeout(30):  # nobody waits for a touch
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


async def test_a_session_made_anew_is_another_one(store: SessionStore) -> None:
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
    ):
        with pytest.raises(AuthError) as caught:
            await call
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
