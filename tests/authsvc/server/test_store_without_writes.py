"""A store that serves reads and takes no writes: what goes on, what fails, and how it ends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from authsvc.client import AuthClient
from authsvc.client.breaker import FAILURES, OPEN_SECONDS
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType
from authsvc.domain.record import Record
from authsvc.domain.resolution import Outcome
from authsvc.server.running import running
from authsvc.stores.sqlite import SqliteStore
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.scraping import scrape
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider
from tests.support.valkey import Valkey, eventually, single

pytestmark = pytest.mark.anyio


DAY_SECONDS = 86_400.0


@dataclass
class Fault:
    """A store that can be broken.

    Attributes:
        store: ``[store]``.
        begun: within it, the store takes no writes.
    """

    store: Mapping[str, object]
    begun: Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One that each test breaks, and mends."""
    options = ("--appendonly", "no", "--enable-protected-configs", "yes")
    with single(tmp_path_factory.mktemp("valkey"), *options) as server:
        yield server


def with_option(valkey: Valkey, name: str, broken: str, mended: str) -> Fault:
    @asynccontextmanager
    async def begun() -> AsyncIterator[None]:
        with closing(valkey.client()) as client:
            client.config_set(name, broken)
            try:
                yield
            finally:
                client.config_set(name, mended)

    return Fault({"kind": "redis", "url": valkey.url}, begun)


def as_replica(valkey: Valkey) -> Fault:
    """After a failover that this client has not seen."""

    @asynccontextmanager
    async def begun() -> AsyncIterator[None]:
        with closing(valkey.client()) as client:
            client.replicaof("127.0.0.1", "1")
            try:
                yield
            finally:
                client.replicaof("NO", "ONE")

    return Fault({"kind": "redis", "url": valkey.url}, begun)


def with_failed_dump(valkey: Valkey, folder: Path) -> Fault:
    """MISCONF: it could not write its file."""

    @asynccontextmanager
    async def begun() -> AsyncIterator[None]:
        (gone := folder / "gone").mkdir()
        with closing(valkey.client()) as client:
            (before,) = client.config_get("dir").values()
            client.config_set("dir", str(gone))
            client.config_set("save", "3600 100000")
            gone.rmdir()
            client.bgsave()
            eventually(
                lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok" or None, "err"
            )
            try:
                yield
            finally:
                client.config_set("dir", str(before))
                client.config_set("save", "")
                client.save()

    return Fault({"kind": "redis", "url": valkey.url}, begun)


def full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """SQLite's own limit of pages: its error is that of a disk without space."""
    stores: list[SqliteStore] = []
    opened = SqliteStore.open

    async def open_and_keep(path: Path, **options: Any) -> SqliteStore:  # noqa: ANN401
        stores.append(await opened(path, **options))
        return stores[-1]

    async def limit(pages: int) -> None:
        statement = f"PRAGMA max_page_count = {pages}"
        for store in stores:
            await store._writer.run(lambda its: its._connection.execute(statement).fetchall())

    @asynccontextmanager
    async def begun() -> AsyncIterator[None]:
        await limit(1)  # that is: no more than there are
        with suppress(AuthError):
            for number in count():
                await stores[0].mark_received(f"{number} {'x' * 500}", 4e9)
        with suppress(AuthError):
            for number in count():
                record = Record(f"filler-{number}", 1, 1.0, 1.0, 4e9)
                await stores[0].put(record, EventType.CREATED)
        with suppress(AuthError):
            for number in count():
                await stores[0].mark_received(str(number), 4e9)
        yield
        await limit(1_000_000)

    monkeypatch.setattr(SqliteStore, "open", open_and_keep)
    return Fault({"kind": "sqlite", "path": folder / "db"}, begun)


def locked_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Another process holds it."""

    @asynccontextmanager
    async def begun() -> AsyncIterator[None]:
        with closing(sqlite3.connect(folder / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as patch:
                patch.setattr("authsvc.stores.sqlite.writer.WRITE_SECONDS", 0.05)
                yield
            other.execute("ROLLBACK")

    monkeypatch.setattr("authsvc.stores.sqlite.writer.WRITE_SECONDS", TIMEOUT_SECONDS)
    return Fault({"kind": "sqlite", "path": folder / "db"}, begun)


FAULTS = ("full-disk", "locked", "out-of-memory", "too-few-replicas", "read-only", "failed-dump")


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """A store to break, in each way."""
    kind = request.param
    if kind == "full-disk":
        return full_disk(tmp_path, monkeypatch)
    if kind == "locked":
        return locked_file(tmp_path, monkeypatch)
    valkey = request.getfixturevalue("valkey")
    if kind == "read-only":
        return as_replica(valkey)
    if kind == "failed-dump":
        return with_failed_dump(valkey, tmp_path)
    if kind == "out-of-memory":
        return with_option(valkey, "maxmemory", "1", "0")
    return with_option(valkey, "min-replicas-to-write", "1", "0")


@dataclass
class Site:
    """Two replicas over the store, and one client of each: by a stream, and by unary calls.

    Attributes:
        creates: client of the first replica, which has made the known sessions.
        reads: client of the second one, whose caches are empty.
        metrics: where the metrics of the first one are.
    """

    creates: AuthClient
    reads: AuthClient
    clock: Clock
    metrics: str

    async def ready(self) -> bool:
        """Whether the first replica says that it is ready."""
        return (await scrape(self.metrics)).value("authsvc_ready") == 1

    async def writes(self) -> bool:
        """Whether it says that its store takes writes."""
        return (await scrape(self.metrics)).value("authsvc_store_writes") == 1

    async def failed_reads(self) -> float:
        """How many reads it has counted as failed."""
        return (await scrape(self.metrics)).value(
            "authsvc_store_operation_failures_total", operation="get", reason="STORE_UNAVAILABLE"
        )


@asynccontextmanager
async def site(
    fault: Fault,
    folder: Path,
    idp: IdentityProvider,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Site]:
    settings = settings_for(folder, idp, fault.store, metrics={"listen": "127.0.0.1:0"})
    other = settings_for(folder, idp, fault.store, listen=f"unix:{folder}/other.sock")
    monotonic = Clock()
    caplog.set_level("INFO")
    async with (
        running(settings, clock=clock, monotonic=clock) as first,
        running(other, clock=clock, monotonic=clock) as second,
        AuthClient(first, deadline_seconds=TIMEOUT_SECONDS, clock=monotonic) as creates,
        AuthClient(
            second, deadline_seconds=TIMEOUT_SECONDS, clock=monotonic, streams=False
        ) as reads,
    ):
        (line,) = [it for it in caplog.records if it.getMessage().startswith("metrics at")]
        yield Site(creates, reads, monotonic, str(line.__dict__["address"]))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is met."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def new_session(client: AuthClient, token: str) -> str:
    created = (await client.create(token, resource=RESOURCE)).session
    assert created is not None
    return created.id


async def failure(call: Awaitable[object]) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await call
    return caught.value


async def test_known_sessions_go_on(
    fault: Fault,
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("authsvc.server.housekeeping.PROBE_INTERVAL_SECONDS", 0.02)
    token = idp.token(iat=clock() - 1)
    async with site(fault, tmp_path, idp, clock, caplog) as on, asyncio.timeout(TIMEOUT_SECONDS):
        known = [await new_session(on.creates, token) for _ in range(4)]
        assert await on.writes()
        async with fault.begun():
            for number in range(2 * FAILURES):
                failed = await failure(on.creates.create(token, resource=RESOURCE))
                assert failed.reason is Reason.STORE_UNAVAILABLE
                # Those that the client has not asked about are no answers.
                assert failed.of_write is (number < FAILURES)
            for session_id in known * FAILURES:
                for client in (on.creates, on.reads):
                    served = await client.resolve(session_id, token, resource=RESOURCE)
                    assert served.outcome is Outcome.REUSED
            # What writes within a known session stops nobody else.
            for client in (on.creates, on.reads):
                newer = (
                    failure(client.resolve(known[0], idp.token(), resource=RESOURCE))
                    for _ in range(FAILURES)
                )
                failures = await asyncio.gather(*newer, failure(client.revoke(known[0])))
                assert all(error.of_write for error in failures)
                await client.resolve(known[1], token, resource=RESOURCE)
            assert not await on.writes()
            assert await on.ready()
            # A write that is due, and that nobody waits for.
            clock.advance(599)
            await on.creates.resolve(known[2], token, resource=RESOURCE)
            clock.advance(30 * DAY_SECONDS)
            ended = await failure(on.creates.resolve(known[3], token, resource=RESOURCE))
            assert ended.reason is Reason.SESSION_EXPIRED
        # It recovers without a call.
        await until(on.writes)
        on.clock.advance(OPEN_SECONDS)
        created = await on.creates.create(idp.token(), resource=RESOURCE)
        assert created.outcome is Outcome.CREATED
    lines = [it.getMessage() for it in caplog.records if it.name == "authsvc.stores.writes"]
    starts = [line.split(":")[0] for line in lines]
    assert starts.count("the store takes no writes") == 2  # once for each replica


async def test_an_outage_is_counted_without_requests_and_logged_once(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients ask a replica that is not ready for nothing."""
    monkeypatch.setattr("authsvc.server.housekeeping.PROBE_INTERVAL_SECONDS", 0.02)
    with single(tmp_path, "--appendonly", "no") as server:
        fault = Fault({"kind": "redis", "url": server.url, "timeout_seconds": 0.2}, nullcontext)
        async with site(fault, tmp_path, idp, clock, caplog) as on:

            def readiness() -> list[str]:
                mine = "authsvc.server.housekeeping"
                return [it.getMessage() for it in caplog.records if it.name == mine]

            async def is_ready() -> bool:
                """Whether both replicas have logged that they are."""
                return readiness().count("ready: nothing is missing any more") == 2

            async def grew() -> bool:
                return await on.failed_reads() > before

            await until(is_ready)
            caplog.clear()
            server.kill()
            for _ in range(3):
                before = await on.failed_reads()
                await until(grew)
            server.restart()
            await until(is_ready)
            missing = "not ready: missing are the session store"
            assert sorted(readiness()) == [missing] * 2 + ["ready: nothing is missing any more"] * 2
