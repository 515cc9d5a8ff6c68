"""The redis store's own promises: replicas, faults, bounds. What all stores promise is in
``test_contract.py``."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter
from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import EVERYONE, NotBefore
from authsvc.domain.service_status import SessionCounts
from authsvc.net.development_certificates import write_development_certificates
from authsvc.stores import STALENESS_BOUND_SECONDS
from authsvc.stores.documents import Document
from authsvc.stores.redis import scripts, tasks
from authsvc.stores.redis.link import MAX_IN_FLIGHT
from authsvc.stores.redis.records import decode_value, encode_value
from authsvc.stores.redis.server import RedisServer, server_at
from authsvc.stores.redis.store import RedisStore
from authsvc.stores.redis.tasks import end
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.proxy import proxied
from tests.support.shared_valkey import fresh_prefix, let_go, shared_cluster, shared_valkey
from tests.support.sockets import serving_tcp
from tests.support.valkey import Valkey, cluster, free_port, sentinel, single, with_replica

pytestmark = pytest.mark.anyio

_LEAVES_CONNECTIONS = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""At a failover redis-py leaves connections to the garbage collector."""

WAITING_SECONDS = 20.0
"""What a busy machine does not exceed. A write that no replica confirms takes half of it."""

KEYS = Document(1, bytes(range(256)))

Open = Callable[[], AbstractAsyncContextManager[RedisStore]]


@asynccontextmanager
async def opened(
    server: RedisServer | str,
    *,
    prefix: str = "",
    cap: int = 1000,
    events_kept: int = 100_000,
    timeout_seconds: float = TIMEOUT_SECONDS,
    bound_seconds: float = TIMEOUT_SECONDS,
) -> AsyncIterator[RedisStore]:
    """A store that a busy machine does not time out, unless the test asks for it."""
    which = server_at(server) if isinstance(server, str) else server
    store = await RedisStore.open(
        replace(which, timeout_seconds=timeout_seconds),
        bound_seconds=bound_seconds,
        prefix=prefix or fresh_prefix(),
        unauthenticated_cap=cap,
        events_kept=events_kept,
    )
    try:
        yield store
    finally:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await store.close()
        if which.mode != "single":
            await let_go()


def record(session_id: str = "s", *, subject: str = "alice", now: float = 100.0) -> Record:
    grant = Grant(os.urandom(32), now, now + 600, "", "client")
    grants = {"https://mcp.example/mcp": grant} if subject else {}
    return Record(
        session_id,
        1,
        now,
        now,
        now + 5000,
        "idp" if subject else "",
        subject,
        MappingProxyType(grants),
    )


def next_of(stored: Record, **changes: object) -> Record:
    return replace(stored, revision=stored.revision + 1, **changes)  # type: ignore[arg-type] # any field


async def until(what: Callable[[], bool]) -> None:
    """Wait for the effect of another task or process."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not what():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


async def current(store: RedisStore) -> None:
    """Wait until the store's cache may answer."""
    await until(lambda: store.cached_not_befores() is not None)
    await until(lambda: all(it.age_seconds() < STALENESS_BOUND_SECONDS for it in store._partitions))


@asynccontextmanager
async def two_replicas(server: RedisServer | str) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    prefix = fresh_prefix()
    async with opened(server, prefix=prefix) as one, opened(server, prefix=prefix) as other:
        await current(one)
        await current(other)
        yield one, other


def cluster_server() -> RedisServer:
    return RedisServer(mode="cluster", nodes=(shared_cluster().primaries[0].address,))


@pytest.fixture(params=["single", "cluster"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    return server_at(shared_valkey().url) if request.param == "single" else cluster_server()


# Replicas.


async def test_a_write_by_one_replica_is_evicted_by_the_other(server: RedisServer) -> None:
    async with two_replicas(server) as (one, other):
        first = record()
        await one.put(first, EventType.CREATED)
        assert await other.get("s") == first
        await until(lambda: other.cached_record("s") == first)
        revoked = next_of(first, revoke_time=110.0)
        await one.put(revoked, EventType.REVOKED)
        await until(lambda: other.cached_record("s") is None)
        assert one.cached_record("s") == revoked
        assert await other.get("s") == revoked


async def test_a_removal_is_evicted_by_every_replica(server: RedisServer) -> None:
    async with two_replicas(server) as (one, other):
        first = record()
        await one.put(first, EventType.CREATED)
        await other.get("s")
        assert other.cached_record("s") == first
        await one.remove(first)
        assert one.cached_record("s") is None
        await until(lambda: other.cached_record("s") is None)
        assert await other.get("s") is None


async def test_a_consistency_token_bypasses_an_older_cache(server: RedisServer) -> None:
    async with two_replicas(server) as (one, other):
        first = record()
        await one.put(first, EventType.CREATED)
        await other.get("s")
        # The other replica stops following: its cache is older than the next write.
        await _halt(other)
        token = await one.put(next_of(first), EventType.REAUTHENTICATED)
        assert token is not None
        assert len(token) <= 64
        assert other.cached_record("s") == first
        assert other.cached_record("s", token) is None
        assert other.cached_record("s", "what is this") is None
        await until(lambda: one.cached_record("s", token) == next_of(first))


async def test_a_not_before_reaches_every_replica(server: RedisServer) -> None:
    async with two_replicas(server) as (one, other):
        token = await one.set_not_before(NotBefore(100.0, 100.0, "idp", "alice"))
        await until(lambda: len(other.cached_not_befores() or ()) == 1)
        await _halt(other)
        later = await one.set_not_before(NotBefore(200.0, 200.0))
        assert other.cached_not_befores(token) is not None
        assert other.cached_not_befores(later) is None
        found = await other.get_not_befores([EVERYONE, ("idp", "alice", "", "")])
        assert {it.time for it in found} == {100.0, 200.0}


async def test_a_replica_that_starts_knows_all_not_befores(server: RedisServer) -> None:
    prefix = fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        for number in range(1500):
            await store.set_not_before(NotBefore(float(number), 1.0, "idp", f"user-{number}"))
    async with opened(server, prefix=prefix) as started:
        await current(started)
        assert len(started.cached_not_befores() or ()) == 1500


async def test_the_later_of_two_not_befores_applies_on_every_replica(server: RedisServer) -> None:
    prefix = fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        await store.set_not_before(NotBefore(200.0, 1.0, "idp", "alice"))
        await store.set_not_before(NotBefore(100.0, 2.0, "idp", "alice"))
        (found,) = await store.get_not_befores([("idp", "alice", "", "")])
        assert found.time == 200.0


# The sets by which records are found and counted.


async def test_records_of_a_release_without_the_sets_are_found_and_then_indexed(
    server: RedisServer,
) -> None:
    """Such a release may run beside this one: it enters nothing in the sets, and takes nothing
    out."""
    async with opened(server) as store:
        names = [f"session-{number}" for number in range(150)]
        for name in names:
            await store.put(record(name), EventType.CREATED)
        await store.put(record("anonymous", subject=""), EventType.CREATED)
        await store.put(replace(record("ended"), revoke_time=101.0), EventType.REVOKED)
        await _drop_sets(store)
        await _add_to_sets(store, "session-gone")
        which = RecordFilter(id_prefix="session-")
        for _ in range(2):
            found = [it.id for it in (await store.page(which, size=1000)).records]
            assert sorted(found) == sorted(names)
            assert await store.sweep(100.0) == 0
        assert await _is_indexed(store)
        assert await store.count(100.0) == SessionCounts(1, 150, 1)
        for name in ("session-gone", *names):
            await store.remove(record(name))
        assert await store.count(100.0) == SessionCounts(1, 0, 1)
        assert not [it async for it in _members(store, "ids") if it.startswith(b"session-")]


async def test_the_sets_are_checked_once_a_day_and_where_they_differ(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.put(replace(record("ended"), revoke_time=101.0), EventType.REVOKED)
        await store.put(record("other"), EventType.CREATED)
        assert not await _is_indexed(store)
        await store.sweep(100.0)
        assert await _is_indexed(store)
        base = store._partitions.of("ended").base
        assert 0 < await store._link.ask("PTTL", f"{base}:indexed") <= 86_400_000
        # What differs in no number is not seen before the next day.
        await store._link.ask("DEL", f"{base}:revoked")
        await store.sweep(100.0)
        assert await store.count(100.0) == SessionCounts(authenticated=2)
        await store._link.ask("DEL", f"{base}:indexed")
        await store.sweep(100.0)
        assert await store.count(100.0) == SessionCounts(authenticated=1, revoked=1)
        # And an id that is missing, or too many, is seen by the next sweep.
        await store._link.ask("ZREM", f"{base}:ids", "ended")
        assert not await _is_indexed(store)
        await store.sweep(100.0)
        assert await _is_indexed(store)
        await store._link.ask("ZADD", f"{base}:ids", 0, "never-there")
        assert not await _is_indexed(store)
        await store.sweep(100.0)
        assert await _is_indexed(store)


async def test_a_repair_that_fails_is_logged_and_tried_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(server) as store:
        await store.put(record(), EventType.CREATED)
        broken, *others = store._partitions
        await store._link.ask("SET", f"{broken.base}:ids", "no set")
        caplog.clear()
        for _ in range(3):
            await store.sweep(100.0)
        (line,) = caplog.records
        assert line.levelname == "WARNING"
        assert "repairs them: STORE_UNAVAILABLE: the store: WRONGTYPE" in line.getMessage()
        # One partition does not keep the others from being repaired.
        for partition in others:
            assert await store._link.run(scripts.IS_INDEXED, partition.base)
        await store._link.ask("DEL", f"{broken.base}:ids")
        await store.sweep(100.0)
        assert await _is_indexed(store)


async def _drop_sets(store: RedisStore) -> None:
    for partition in store._partitions:
        for name in ("ids", "revoked", "live_unauthenticated", "indexed"):
            await store._link.ask("DEL", f"{partition.base}:{name}")


async def _add_to_sets(store: RedisStore, session_id: str) -> None:
    """As if another release had removed a record."""
    base = store._partitions.of(session_id).base
    for name in ("ids", "revoked", "live_unauthenticated"):
        await store._link.ask("ZADD", f"{base}:{name}", 9e9 if name != "ids" else 0, session_id)


async def _members(store: RedisStore, name: str) -> AsyncIterator[bytes]:
    for partition in store._partitions:
        for member in await store._link.ask("ZRANGE", f"{partition.base}:{name}", 0, -1):
            yield member


# Age, and faults of the server.


async def test_the_cache_answers_nothing_while_the_server_is_silent(tmp_path: Path) -> None:
    with single(tmp_path) as valkey:
        async with opened(
            valkey.url, timeout_seconds=1.0, bound_seconds=STALENESS_BOUND_SECONDS
        ) as store:
            await current(store)
            first = record()
            await _until_written(store, first)
            await until(lambda: store.cached_record("s") == first)
            valkey.pause()
            # How soon is for chaos to measure.
            await until(lambda: store.cached_record("s") is None)
            assert store.cached_not_befores() is None
            for call in (store.get("s"), store.put(next_of(first), EventType.REVOKED)):
                await _is_unavailable(call)
            valkey.resume()
            await until(lambda: store.cached_not_befores() is not None)
            assert await _got(store, "s") is not None


async def test_without_the_feed_the_server_is_asked() -> None:
    async with (
        proxied(shared_valkey().address) as proxy,
        opened(proxy.url, bound_seconds=STALENESS_BOUND_SECONDS) as store,
    ):
        await current(store)
        first = record()
        await store.put(first, EventType.CREATED)
        for fault in (proxy.cut, proxy.freeze):
            fault(feed_only=True)
            await until(lambda: store.cached_record("s") is None)
            assert await store.get("s") == first
            proxy.mend()
            await current(store)
            await store.get("s")
            await until(lambda: store.cached_record("s") == first)


async def test_what_happened_during_a_break_is_not_missed(server: RedisServer) -> None:
    prefix = fresh_prefix()
    async with (
        proxied(shared_valkey().address) as proxy,
        opened(proxy.url, prefix=prefix) as broken,
        opened(shared_valkey().url, prefix=prefix) as whole,
    ):
        await current(broken)
        first = record()
        await broken.put(first, EventType.CREATED)
        proxy.cut()
        await whole.put(next_of(first, revoke_time=1.0), EventType.REVOKED)
        await whole.set_not_before(NotBefore(100.0, 100.0, "idp", "bob"))
        proxy.mend()
        await until(lambda: len(broken.cached_not_befores() or ()) == 1)
        assert broken.cached_record("s") is None
        stored = await broken.get("s")
        assert stored is not None
        assert stored.revoke_time == 1.0


async def test_a_restart_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with single(tmp_path) as valkey:
        async with opened(valkey.url) as store:
            await current(store)
            acknowledged: list[str] = []
            stop = asyncio.Event()

            async def write(worker: int) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    name = f"{worker}-{number}"
                    try:
                        if await store.put(record(name), EventType.CREATED) is not None:
                            await store.mark_received(name, 4e9)
                            acknowledged.append(name)
                    except AuthError:
                        await asyncio.sleep(0.01)

            async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
                for worker in range(8):
                    group.create_task(write(worker))
                await until(lambda: len(acknowledged) > 200)
                await asyncio.to_thread(valkey.restart)
                before = len(acknowledged)
                await until(lambda: len(acknowledged) > before + 50)
                stop.set()
            missing = [name for name in acknowledged if await store.get(name) is None]
            assert missing == []
            assert all([await store.is_received(name) for name in acknowledged])


async def test_a_server_that_is_unavailable_at_the_start_is_waited_for(tmp_path: Path) -> None:
    with single(tmp_path) as valkey:
        valkey.kill()
        async with opened(valkey.url) as store:
            assert store.cached_not_befores() is None
            await _is_unavailable(store.get("s"))
            valkey.start()
            await current(store)
            assert await store.put(record(), EventType.CREATED)


async def test_a_full_server_rejects_whole_writes_and_recovers(tmp_path: Path) -> None:
    with single(tmp_path) as valkey, valkey.client() as client:
        async with opened(valkey.url, events_kept=1000) as store:
            anonymous = record("a", subject="")
            await store.put(anonymous, EventType.CREATED)
            await store.put(record("s"), EventType.CREATED)
            client.config_set("maxmemory", "100kb")
            for fresh in (record("t"), next_of(anonymous, subject="x"), next_of(record("s"))):
                await _is_unavailable(store.put(fresh, EventType.CREATED))
            assert await store.get("a") == anonymous
            assert [it.id for it in await _unauthenticated(store)] == ["a"]
            assert await store.sweep(1e9) == 2
            client.config_set("maxmemory", 0)
            assert await store.put(record("s"), EventType.CREATED)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_evict_revocations_is_rejected(tmp_path: Path, policy: str) -> None:
    with (
        single(tmp_path, "--maxmemory-policy", policy) as valkey,
        pytest.raises(ValueError, match=f"{policy}.*noeviction"),
    ):
        async with opened(valkey.url):
            pass


async def test_a_server_that_returns_unsafe_is_rejected(tmp_path: Path) -> None:
    with single(tmp_path) as valkey, valkey.client() as client:
        valkey.kill()
        async with opened(valkey.url) as store:
            valkey.start()
            await current(store)
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: bool(store._unsafe_because))
            with pytest.raises(AuthError, match="noeviction"):
                await store.get("s")
            client.config_set("maxmemory-policy", "noeviction")
            await until(lambda: not store._unsafe_because)
            assert await store.get("s") is None


async def test_scripts_that_the_server_has_dropped_are_sent_again(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.put(record(), EventType.CREATED)
        for node in (shared_valkey(), *shared_cluster().primaries):
            with node.client() as client:
                client.script_flush()
        assert await store.put(next_of(record()), EventType.REAUTHENTICATED)


# Lost answers.


async def is_unanswered(write: Awaitable[object]) -> bool:
    with pytest.raises(AuthError) as caught:
        await write
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    return caught.value.is_unanswered


async def test_a_write_that_the_client_repeats_may_have_come_first_itself() -> None:
    async with proxied(shared_valkey().address) as proxy, opened(proxy.url) as store:
        # The server has the scripts from now on.
        assert await store.put(record("other"), EventType.CREATED)
        assert await store.set_not_before(NotBefore(1.0, 1.0, "idp", "bob"))
        proxy.lose_answer(scripts.PUT.sha.encode())
        assert await is_unanswered(store.put(record(), EventType.CREATED))
        assert await store.get("s") is not None
        assert await store.put(record(), EventType.CREATED) is None
        # One that does the same each time may be repeated.
        proxy.lose_answer(scripts.SET_NOT_BEFORE.sha.encode())
        assert await store.set_not_before(NotBefore(5.0, 1.0, "idp", "bob"))


async def test_a_write_without_an_answer_may_have_been_made_once_it_was_sent() -> None:
    async with (
        proxied(shared_valkey().address) as proxy,
        opened(proxy.url, timeout_seconds=0.3) as store,
    ):
        proxy.freeze()
        assert await is_unanswered(store.put(record(), EventType.CREATED))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(MAX_IN_FLIGHT):
                await store._link._slots.acquire()
        assert not await is_unanswered(store.put(record(), EventType.CREATED))
        proxy.mend()


async def test_a_write_that_the_server_refuses_or_never_gets_is_not_made(
    server: RedisServer,
) -> None:
    async with opened(server) as store:
        base = store._partitions.of("s").base
        await store._link.ask("SET", f"{base}:events", "no stream")
        assert not await is_unanswered(store.put(record(), EventType.CREATED))
        await store._link.ask("DEL", f"{base}:events")
    assert not await is_unanswered(store.put(record(), EventType.CREATED))
    async with opened(f"redis://127.0.0.1:{free_port()}") as unreachable:
        assert not await is_unanswered(unreachable.put(record(), EventType.CREATED))


# Replication.


async def test_a_write_is_acknowledged_once_replicas_have_it(tmp_path: Path) -> None:
    with with_replica(tmp_path) as pair:
        server = replace(server_at(pair.primary.url), acknowledge_replicas=1)
        async with opened(server, timeout_seconds=WAITING_SECONDS) as store:
            assert await store.put(record(), EventType.CREATED)
            pair.replica.pause()
            with pytest.raises(AuthError, match="confirmed by 0 of 1") as caught:
                await store.put(next_of(record()), EventType.REVOKED)
            assert caught.value.is_unanswered
            pair.replica.resume()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                stored = await store.get("s")
                assert stored is not None
                while await _failed(store.put(next_of(stored), EventType.REVOKED)):
                    stored = await store.get("s")
                    assert stored is not None


async def test_a_record_that_was_read_may_not_be_replicated_yet(tmp_path: Path) -> None:
    with with_replica(tmp_path) as pair:
        server = replace(server_at(pair.primary.url), acknowledge_replicas=1)
        async with opened(server, timeout_seconds=WAITING_SECONDS) as store:
            await store.put(record(), EventType.CREATED)
            await store.confirm(record())
            pair.replica.pause()
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await store.put(next_of(record(), revoke_time=1.0), EventType.REVOKED)
            stored = await store.get("s")
            assert stored is not None
            assert stored.revoke_time == 1.0
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await store.confirm(stored)


async def test_a_document_is_acknowledged_once_replicas_have_it(tmp_path: Path) -> None:
    with with_replica(tmp_path) as pair:
        server = replace(server_at(pair.primary.url), acknowledge_replicas=1)
        async with opened(server, timeout_seconds=WAITING_SECONDS) as store:
            assert await store.put_document("keys", KEYS)
            await store.confirm_document("keys")
            pair.replica.pause()
            later = Document(2, b"later")
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await store.put_document("keys", later)
            # It was written, and a failover may still undo it.
            assert await store.document("keys") == later
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await store.confirm_document("keys")
            pair.replica.resume()
            await _until_document_is(store, later)


async def test_a_mark_is_acknowledged_once_replicas_have_it(tmp_path: Path) -> None:
    with with_replica(tmp_path) as pair:
        server = replace(server_at(pair.primary.url), acknowledge_replicas=1)
        async with (
            opened(server, prefix="p", timeout_seconds=WAITING_SECONDS) as store,
            opened(server, prefix="p", timeout_seconds=WAITING_SECONDS) as other,
        ):
            await store.mark_received("one", 4e9)
            pair.replica.pause()
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await store.mark_received("two", 4e9)
            # Where nothing changes, too: another connection's write may not be replicated yet.
            with pytest.raises(AuthError, match="confirmed by 0 of 1"):
                await other.mark_received("two", 3e9)
            pair.replica.resume()
            await _until_marked(store, "two")
            with pair.replica.client() as replica:
                keys = [str(key) for key in replica.scan_iter("*:r:two")]
            assert len(keys) == 1


async def test_a_full_server_still_has_its_documents(tmp_path: Path) -> None:
    with single(tmp_path) as valkey, valkey.client() as client:
        async with opened(valkey.url) as store:
            assert await store.put_document("keys", KEYS)
            client.config_set("maxmemory", "100kb")
            await _is_unavailable(store.put_document("keys", Document(2, b"later")))
            assert await store.document("keys") == KEYS
            client.config_set("maxmemory", 0)
            assert await store.put_document("keys", Document(2, b"later"))


@_LEAVES_CONNECTIONS
async def test_a_failover_by_sentinels_loses_nothing_acknowledged(tmp_path: Path) -> None:
    # Slow to take a server for dead: on a busy machine it may well be alive.
    with sentinel(tmp_path, down_after_ms=3_000) as group:
        server = RedisServer(
            mode="sentinel",
            nodes=tuple(one.address for one in group.sentinels),
            service=group.service,
            acknowledge_replicas=1,
        )
        async with opened(
            server, timeout_seconds=WAITING_SECONDS, bound_seconds=STALENESS_BOUND_SECONDS
        ) as store:
            await until(lambda: store.cached_not_befores() is not None)
            acknowledged = [f"s{number}" for number in range(50)]
            for name in acknowledged:
                await _until_written(store, record(name))
            await _until_not_before_set(store, NotBefore(100.0, 100.0, "idp", "alice"))
            await _until_document_is(store, KEYS)
            await _until_marked(store, "key")
            group.current_primary().kill()
            await _taken_over(store, acknowledged)


@_LEAVES_CONNECTIONS
async def test_a_failover_in_a_cluster_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1, node_timeout_ms=3_000) as nodes:
        server = RedisServer(
            mode="cluster",
            nodes=tuple(node.address for node in nodes.primaries),
            acknowledge_replicas=1,
        )
        async with opened(
            server, timeout_seconds=WAITING_SECONDS, bound_seconds=STALENESS_BOUND_SECONDS
        ) as store:
            await until(lambda: store.cached_not_befores() is not None)
            acknowledged = [f"s{number}" for number in range(50)]
            for name in acknowledged:
                await _until_written(store, record(name))
            await _until_not_before_set(store, NotBefore(100.0, 100.0, "idp", "alice"))
            await _until_document_is(store, KEYS)
            await _until_marked(store, "key")
            nodes.primary_of(f"{store._partitions.first.base}:any").kill()
            await _taken_over(store, acknowledged)


async def test_a_task_that_does_not_end_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "END_SECONDS", 0.1)
    over = asyncio.Event()

    async def deaf() -> None:
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await tasks.end([task])
    assert not task.done()
    over.set()
    await task


# What it keeps.


async def test_a_record_costs_a_kilobyte_at_most(tmp_path: Path) -> None:
    with single(tmp_path, "--appendonly", "no") as valkey, valkey.client() as client:
        async with opened(valkey.url, events_kept=1000) as store:
            names = [secrets.token_urlsafe(24) for _ in range(2000)]

            async def write(batch: list[str]) -> None:
                for name in batch:
                    grant = Grant(
                        *(os.urandom(32), 1.8e9 + 0.5, 1.8e9 + 3600.5, name, "a-client-id"),
                        provider_session=secrets.token_urlsafe(32),
                    )
                    await store.put(
                        replace(
                            record(name, now=1.8e9 + 0.123456),
                            issuer="https://idp.example.com/realms/main",
                            subject=f"{name[:6]}@example.com",
                            grants=MappingProxyType({"https://mcp.example.com/mcp": grant}),
                        ),
                        EventType.CREATED,
                    )

            await write(names[:1000])  # the log has its full length now
            before = client.memory_stats()["total.allocated"]
            await write(names[1000:])
            assert (client.memory_stats()["total.allocated"] - before) / 1000 <= 1024


async def test_a_key_outlives_its_record_but_not_for_long() -> None:
    prefix = fresh_prefix()
    async with opened(shared_valkey().url, prefix=prefix) as store:
        await store.put(record(now=1.8e9), EventType.CREATED)
        with shared_valkey().client() as client:
            ttl = int(client.ttl(f"{prefix}:{{0}}:s:s"))
    assert 5000 < ttl <= 5000 + 3600


async def test_a_mark_outlives_its_time_but_not_for_long() -> None:
    prefix = fresh_prefix()
    until = round(time.time()) + 5000
    async with opened(shared_valkey().url, prefix=prefix) as store:
        await store.mark_received("key", until)
        await store.mark_received("key", until - 100)
        await store.mark_received("key-of-long-ago", 1.0)
        assert await store.is_received("key")
        assert not await store.is_received("key-of-long-ago")
    with shared_valkey().client() as client:
        assert client.expiretime(f"{prefix}:{{0}}:r:key") == until + 3600


async def test_no_index_is_left_of_removed_records(server: RedisServer) -> None:
    prefix = fresh_prefix()
    async with opened(server, prefix=prefix) as store:
        for number in range(20):
            await store.put(record(f"s{number}"), EventType.CREATED)
            await store.put(record(f"a{number}", subject=""), EventType.CREATED)
        await store.remove(record("s0"))
        assert await store.sweep(1e9) == 39
    nodes = [shared_valkey()] if server.mode == "single" else list(shared_cluster().primaries)
    assert _kinds(nodes, prefix) == {"events", "indexed"}


async def test_a_record_of_a_later_format_is_unavailable_and_affects_no_other() -> None:
    prefix = fresh_prefix()
    async with opened(shared_valkey().url, prefix=prefix) as store:
        await store.put(record(), EventType.CREATED)
        await store.put(record("other"), EventType.CREATED)
        with shared_valkey().client() as client:
            key = f"{prefix}:{{0}}:s:s"
            client.set(key, "99" + str(client.get(key))[1:])
    async with opened(shared_valkey().url, prefix=prefix) as store:
        await current(store)
        await _is_unavailable(store.get("s"))
        assert await store.get("other") is not None


async def test_an_event_of_a_later_version_is_skipped() -> None:
    prefix = fresh_prefix()
    async with opened(shared_valkey().url, prefix=prefix) as store:
        await current(store)
        watching = store.watch()
        first = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        await store.put(record(), EventType.CREATED)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await first
            with shared_valkey().client() as client:
                entry = {"t": "77", "m": "1.0", "i": "s", "v": "from the future"}
                client.xadd(f"{prefix}:{{0}}:events", entry)
            # Its effect on the record is unknown.
            await until(lambda: store.cached_record("s") is None)
            await store.put(next_of(record()), EventType.REVOKED)
            assert (await anext(watching)).event.type is EventType.REVOKED
        await watching.aclose()


# Connecting.


def test_a_url_is_parsed() -> None:
    assert server_at("redis://h").nodes == (("h", 6379),)
    assert server_at("rediss://user@h:7/3") == RedisServer(
        nodes=(("h", 7),), database=3, username="user", tls=True
    )
    assert server_at("redis://[::1]:7").nodes == (("::1", 7),)
    assert server_at("redis://val_key:7/0").nodes == (("val_key", 7),)
    assert server_at("unix:///run/valkey.sock").unix_socket == Path("/run/valkey.sock")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://u:hush@h", "http://h", "redis://", "redis://h/x", "redis://h?db=1", "unix:"),
        *("redis://u:hush^@h", "redis://u:@h", "redis://h:0", "redis://h:99999", "redis://a b"),
        *("redis://h\n", "redis://a..b", "redis://h#x", "unix:/run/a\n", "unix://u:hush@/run/a"),
        *("unix:///run/a?password=hush", "unix:/run/a?", "unix:/run/valkey#2.sock", "unix:/run/a#"),
    ],
)
def test_an_incomplete_or_ambiguous_url_is_rejected(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the next line checks the message
        server_at(url)
    assert "hush" not in str(caught.value)
    # The message continues "url ...".
    assert str(caught.value).split()[0] in {"is", "has", "holds"}


async def test_a_user_with_the_least_rights_is_enough(tmp_path: Path) -> None:
    acl = tmp_path / "users.acl"
    acl.write_text(
        "user default off\n"
        "user admin on >hush-admin ~* &* +@all\n"
        "user authsvc on >hush-one ~authsvc:* resetchannels -@all +get +set +mget +del +pexpire "
        "+zadd +zrem +zcard +zcount +zscore +zscan +zrange +sadd +srem +smembers +xadd +xread "
        "+xrevrange +hget +hset "
        "+hdel +hmget +hscan +evalsha +eval +wait +info +ping +select +client|setinfo\n"
    )
    password = tmp_path / "password"
    password.write_text("hush-one\n")
    login = {"username": "admin", "password": "hush-admin"}
    with single(tmp_path, "--aclfile", str(acl), login=login) as valkey:
        server = replace(server_at(valkey.url), username="authsvc", password_file=password)
        async with opened(server, prefix="authsvc") as store:
            await current(store)
            await _exercise(store)
        password.write_text("wrong")
        async with opened(server, prefix="authsvc") as store:
            with pytest.raises(AuthError) as caught:
                await store.get("s")
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            assert "wrong" not in caught.value.detail


async def test_tls_is_used_and_verified(tmp_path: Path) -> None:
    """Through a proxy that terminates TLS: the server of the tests is built without it."""
    write_development_certificates(tmp_path, client_name="spiffe://dev/authsvc")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    async with tls_in_front_of(shared_valkey().address, context) as port:
        ours = replace(
            server_at(f"rediss://localhost:{port}"),
            ca_file=tmp_path / "ca.pem",
            certificate_file=tmp_path / "client.pem",
            key_file=tmp_path / "client.key",
        )
        async with opened(ours) as store:
            await current(store)
            await _exercise(store)
        write_development_certificates(tmp_path / "other", client_name="spiffe://dev/authsvc")
        another_authority = replace(ours, ca_file=tmp_path / "other" / "ca.pem")
        without_certificate = replace(ours, certificate_file=None, key_file=None)
        for stranger in (another_authority, without_certificate):
            async with opened(stranger) as store:
                await _is_unavailable(store.get("s"))


@asynccontextmanager
async def tls_in_front_of(upstream: tuple[str, int], context: ssl.SSLContext) -> AsyncIterator[int]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*upstream)
        await asyncio.gather(carry(reader, upstream_writer), carry(upstream_reader, writer))

    async with serving_tcp(serve, tls=context) as (_, port):
        yield port


async def _exercise(store: RedisStore) -> None:
    """Use every kind of command once."""
    first = record()
    assert await store.put(first, EventType.CREATED)
    assert await store.put(record("a", subject=""), EventType.CREATED)
    await store.confirm(first)
    await store.touch(replace(first, expire_time=9999.0))
    assert await store.put_document("keys", Document(1, b"{}"))
    await store.confirm_document("keys")
    assert await store.document("keys")
    await store.set_not_before(NotBefore(1.0, 1.0, "idp", "bob"))
    assert len(await store.get_not_befores([("idp", "bob", "", "")])) == 1
    await store.delete_not_befores(2.0)
    assert len((await store.page(RecordFilter(), size=10)).records) == 2
    assert (
        len((await store.page(RecordFilter(issuer="idp", subject="alice"), size=10)).records) == 1
    )
    assert len(await store.records_of("idp", "alice", most=10)) == 1
    watching = store.watch("0-0")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await anext(watching)
    await watching.aclose()
    await store.mark_received("key", 4e9)
    assert await store.is_received("key")
    assert len((await store.page(RecordFilter(id_prefix="a"), size=10)).records) == 1
    assert await store.count(0.0) == SessionCounts(unauthenticated=1, authenticated=1)
    await store.remove(first)
    await store.sweep(100.0)
    assert await _is_indexed(store)  # a failure of it is not raised
    await store.sweep(1e9)


async def _is_indexed(store: RedisStore) -> bool:
    checks = [await store._link.run(scripts.IS_INDEXED, it.base) for it in store._partitions]
    return all(checks)


async def _halt(store: RedisStore) -> None:
    """Stop following the logs, while the cache is still fresh."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await end(store._followers)


async def _is_unavailable(call: object) -> None:
    with pytest.raises(AuthError) as caught:
        await call  # type: ignore[misc] # any awaitable
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def _until_written(store: RedisStore, written: Record) -> None:
    """Repeat a write until it is acknowledged."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                if await store.put(written, EventType.CREATED) is not None:
                    return
                # A write that was not acknowledged has taken effect.
                await store.confirm(written)
            except AuthError:
                await asyncio.sleep(0.01)
            else:
                return


async def _until_not_before_set(store: RedisStore, not_before: NotBefore) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                await store.set_not_before(not_before)
                return
            except AuthError:
                await asyncio.sleep(0.01)


async def _until_marked(store: RedisStore, key: str) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                await store.mark_received(key, 4e9)
                return
            except AuthError:
                await asyncio.sleep(0.01)


async def _taken_over(store: RedisStore, names: list[str]) -> None:
    """Wait until another server serves, which has these records and the one not-before.

    Not until all partitions are current at one moment, which may be long on a busy machine.
    """
    await until(lambda: store.cached_not_befores() is None)
    await until(lambda: store.cached_not_befores() is not None)
    await until(lambda: len(store.cached_not_befores() or ()) == 1)
    assert None not in [await _got(store, name) for name in names]
    assert await store.document("keys") == KEYS
    assert await store.is_received("key")


async def _until_document_is(store: RedisStore, document: Document) -> None:
    """Repeat a write until it is acknowledged, or found."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                await store.put_document("keys", document)
                assert await store.document("keys") == document
                await store.confirm_document("keys")
                return
            except AuthError:
                await asyncio.sleep(0.01)


async def _got(store: RedisStore, session_id: str) -> Record | None:
    """The stored record, once the client has found the new primary."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                return await store.get(session_id)
            except AuthError:
                await asyncio.sleep(0.01)


async def _failed(call: object) -> bool:
    try:
        return await call is None  # type: ignore[misc] # any awaitable
    except AuthError:
        return True


async def _unauthenticated(store: RedisStore) -> list[Record]:
    return (await store.page(RecordFilter(authenticated=False), size=1000)).records


def _kinds(nodes: list[Valkey], prefix: str) -> set[str]:
    """The kinds of keys with a prefix."""
    kinds: set[str] = set()
    for node in nodes:
        with node.client() as client:
            kinds |= {str(key).split(":")[2] for key in client.scan_iter(f"{prefix}:*")}
    return kinds


# Upgrades: records of an earlier release are read.

FIRST_FORMAT = (
    b'1 3 1800000000.125 1800000100.5 1800086500.5 PbBUWAKLpv5Zi_BD7oN-pKjW\n["https://idp.example",'
    b'"al\\u00efce",null]\n{"format":1,"grants":{"https://mcp.example/mcp":["AAECAwQFBgcICQoLDA0ODxAR'
    b'EhMUFRYXGBkaGxwdHh8=",1800000000.0,1800000600.0,"jti","client"]}}'
)
"""A record as the first release with this store wrote it. It must never change: replicas of two
releases work over one store, and each has to read what the other writes."""


async def test_a_record_as_the_first_release_wrote_it_is_read() -> None:
    prefix = fresh_prefix()
    with shared_valkey().client() as client:
        client.set(f"{prefix}:{{0}}:s:s", FIRST_FORMAT)
    async with opened(shared_valkey().url, prefix=prefix) as store:
        stored = await store.get("s")
        assert stored == Record(
            id="s",
            revision=3,
            create_time=1800000000.125,
            last_seen_time=1800000100.5,
            expire_time=1800086500.5,
            issuer="https://idp.example",
            subject="alïce",
            grants=MappingProxyType(
                {
                    "https://mcp.example/mcp": Grant(
                        bytes(range(32)), 1800000000.0, 1800000600.0, "jti", "client"
                    )
                }
            ),
        )
        await store.touch(replace(stored, last_seen_time=1800000200.0))
        assert await store.put(next_of(stored, revoke_time=1800000300.0), EventType.REVOKED)


def test_the_written_format_is_one_that_the_last_release_reads() -> None:
    record = decode_value("s", FIRST_FORMAT)
    written = encode_value(record)
    assert written.split(b" ")[0] == b"1"
    assert _without_index(written) == _without_index(FIRST_FORMAT)


def _without_index(value: bytes) -> bytes:
    line, rest = value.split(b"\n", 1)
    return line.rpartition(b" ")[0] + rest
