"""What the SQLite store promises beyond the contract."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter
from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import NotBefore
from authsvc.domain.service_status import SessionCounts
from authsvc.stores import SessionStore
from authsvc.stores.counting import CountedState, counted_state
from authsvc.stores.documents import Document
from authsvc.stores.memory import MemoryStore
from authsvc.stores.sqlite import SqliteStore, listing
from authsvc.stores.sqlite.schema import connect_read_only
from authsvc.stores.sqlite.transaction import Transaction
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


async def opened(path: Path, cap: int = 1000) -> SqliteStore:
    return await SqliteStore.open(path, unauthenticated_cap=cap)


def record(session_id: str, *, subject: str = "alice", now: float = 100.0) -> Record:
    return Record(session_id, 1, now, now, now + 50, "idp", subject)


async def put(store: SessionStore, record: Record) -> str | None:
    return await store.put(record, EventType.CREATED)


async def test_a_reopened_file_has_all_records(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "authsvc.db"
    store = await opened(path)
    await put(store, record("s"))
    await store.touch(replace(record("s"), last_seen_time=120.0, expire_time=170.0))
    await store.close()
    store = await opened(path)
    assert await store.get("s") == replace(record("s"), last_seen_time=120.0, expire_time=170.0)
    await store.close()


async def test_a_record_that_the_cap_has_removed_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.stores.sqlite.reader.CHECK_SECONDS", 60.0)
    store = await opened(tmp_path / "db", cap=1)
    await put(store, record("first", subject=""))
    for _ in range(3):  # up to date, and no look at the file is due
        assert store.cached_record("first") is not None
    await put(store, record("second", subject="", now=101.0))
    assert store.cached_record("first") is None
    assert store.cached_record("second") is not None
    await store.close()


async def test_two_stores_on_one_file_see_each_other(tmp_path: Path) -> None:
    first, second = await opened(tmp_path / "db"), await opened(tmp_path / "db")
    assert await put(first, record("s"))
    assert await second.get("s") == record("s")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        rivals = [replace(record("s", subject=f"rival-{n}"), revision=2) for n in range(10)]
        won = await asyncio.gather(
            *(put((first, second)[number % 2], rival) for number, rival in enumerate(rivals))
        )
    (winner,) = [rival for rival, token in zip(rivals, won, strict=True) if token is not None]
    assert await first.get("s") == await second.get("s") == winner
    await first.close()
    await second.close()


_CHILD = """
import asyncio, sys
from pathlib import Path
from authsvc.domain.events import EventType
from authsvc.domain.record import Record
from authsvc.stores.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), unauthenticated_cap=10**6)
    async def write(worker):
        for number in range(10**6):
            name = f"{sys.argv[2]}-{worker}-{number}"
            record = Record(name, 1, 1.0, 1.0, 1.0, "idp", "alice")
            if not await store.put(record, EventType.CREATED):
                raise SystemExit("refused")
            await store.mark_received(name, 4e9)
            print(name, flush=True)
    await asyncio.gather(*map(write, range(8)))

asyncio.run(main())
"""


async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "db"
    acknowledged: list[str] = []
    for round_number in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(round_number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            acknowledged += [child.stdout.readline().strip() for _ in range(200)]
            child.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
        assert child.wait(TIMEOUT_SECONDS) == -signal.SIGKILL
    store = await opened(path)
    assert len(acknowledged) >= 600
    for name in acknowledged:
        assert await store.get(name) is not None
        assert await store.is_received(name)
    await store.close()


_OPENER = """
import asyncio, sys
from pathlib import Path
from authsvc.stores.sqlite import SqliteStore

async def main():
    for number in range(40):
        print(number, flush=True)
        sys.stdin.readline()  # all at once
        store = await SqliteStore.open(Path(sys.argv[1]) / str(number), unauthenticated_cap=1)
        await store.close()

asyncio.run(main())
"""


def test_processes_that_create_the_same_file_at_once_all_open_it(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for _ in range(40):
            for opener in openers:
                assert opener.stdout is not None
                assert opener.stdout.readline(), "it has ended"
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write("\n")
                opener.stdin.flush()
        assert [opener.wait(TIMEOUT_SECONDS) for opener in openers] == [0, 0, 0]
    finally:
        for opener in openers:
            opener.kill()
            opener.communicate()


async def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    await put(store, record("s"))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3  # the file, its write-ahead log and their index
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    await store.close()


async def test_a_file_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    path, content = tmp_path / "db", b"this is no database, but it is long enough" * 100
    path.write_bytes(content)
    with pytest.raises(AuthError, match="not a database"):
        await opened(path)
    assert path.read_bytes() == content


async def test_a_later_schema_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(AuthError, match="99") as caught:
        await opened(path)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


_SCHEMA_1 = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    create_time REAL NOT NULL,
    last_seen_time REAL NOT NULL,
    expire_time REAL NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    grants TEXT NOT NULL,
    revoke_time REAL
);
CREATE INDEX sessions_by_expire_time ON sessions (expire_time);
CREATE INDEX unauthenticated ON sessions (create_time) WHERE subject = '';
INSERT INTO sessions VALUES ('s', 2, 100.0, 110.0, 160.5, 'idp', 'alice',
    '{"format":1,"grants":{"https://mcp.example/mcp":["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
100.0,700.0,"jti","client"]}}', NULL);
PRAGMA user_version = 1;
"""


async def test_a_file_of_the_first_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.executescript(_SCHEMA_1)
    connection.close()
    for _ in range(2):  # and opened again
        store = await opened(path)
        stored = await store.get("s")
        assert stored is not None
        grant = Grant(bytes(range(32)), 100.0, 700.0, "jti", "client")
        assert stored == replace(
            record("s"), revision=stored.revision, last_seen_time=110.0, expire_time=160.5,
            grants={"https://mcp.example/mcp": grant},
        )  # fmt: skip
        assert await put(store, replace(stored, revision=stored.revision + 1))
        await store.set_not_before(NotBefore(1.0, 1.0, "idp", "bob"))
        assert len((await store.page(RecordFilter(), size=10)).records) == 1
        document = await store.document("keys")
        revision = document.revision + 1 if document else 1
        assert await store.put_document("keys", Document(revision, b"content"))
        await store.close()


_SCHEMA_3 = _SCHEMA_1.replace(
    "PRAGMA user_version = 1;",
    """
CREATE INDEX sessions_by_create_time ON sessions (create_time, id);
CREATE INDEX sessions_by_subject ON sessions (issuer, subject) WHERE subject != '';
CREATE TABLE not_befores (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT NOT NULL,
    time REAL NOT NULL,
    set_time REAL NOT NULL,
    PRIMARY KEY (issuer, subject, token_id)
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    type INTEGER NOT NULL,
    time REAL NOT NULL,
    session_id TEXT NOT NULL,
    create_time REAL NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE documents (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, content BLOB NOT NULL);
INSERT INTO documents VALUES ('keys', 7, x'00ff');
INSERT INTO not_befores VALUES ('', '', '', 1.0, 2.0);
INSERT INTO not_befores VALUES ('idp', 'alice', '', 3.0, 4.0);
INSERT INTO not_befores VALUES ('idp', '', 'j1', 5.0, 6.0);
INSERT INTO events VALUES (41, 6, 4.0, '', 0.0, 0,
    '{"format":1,"time":3.0,"set_time":4.0,"issuer":"idp","subject":"alice","token_id":""}');
PRAGMA user_version = 3;
""",
)


async def test_a_file_of_schema_3_keeps_its_revocations_and_its_log(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.executescript(_SCHEMA_3)
    connection.close()
    before = [
        NotBefore(1.0, 2.0),
        NotBefore(3.0, 4.0, "idp", "alice"),
        NotBefore(5.0, 6.0, "idp", "", "j1"),
    ]
    of_session = NotBefore(7.0, 8.0, "idp", provider_session="digest")
    store = await opened(path)
    assert sorted(await store.get_not_befores([]), key=lambda it: it.time) == before
    assert await store.document("keys") == Document(7, b"\x00\xff")
    assert await store.get("s") is not None
    log = store.watch("40")
    assert (await anext(log)).event.not_before == before[1]
    await log.aclose()
    assert int(await store.set_not_before(of_session)) == 42
    # It replaces none that names the same issuer alone.
    await store.set_not_before(replace(of_session, time=9.0, provider_session="other"))
    await store.mark_received("key", 4e9)
    await store.close()
    store = await opened(path)
    times = [it.time for it in sorted(await store.get_not_befores([]), key=lambda it: it.time)]
    assert times == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert await store.is_received("key")
    await store.close()


_SCHEMA_4 = _SCHEMA_3.replace(
    "PRAGMA user_version = 3;",
    """
ALTER TABLE not_befores ADD COLUMN provider_session TEXT NOT NULL DEFAULT '';
CREATE TABLE received (key TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE INDEX received_by_until ON received (until);
PRAGMA user_version = 4;
""",
)

_GRANTS = """{"format":1,"grants":{"https://a.example/mcp":["AA==",90.0,700.0,"",""],
"https://b.example/mcp":["AA==",%s,700.0,"",""]}}"""

_RECORDS_OF_SCHEMA_4 = (
    ("anonymous", "", "", None),
    ("alices", "idp", _GRANTS % 101.0, None),
    ("revoked", "idp", _GRANTS % 120.0, 110.0),
    ("revoked-anonymous", "", "", 110.0),
    ("~revoked", "idp", _GRANTS % 110.0, 110.0),
    ("~used-again", "idp", _GRANTS % 110.5, 110.0),
    ("~no-grants", "idp", '{"format":1,"grants":{}}', 110.0),
)


async def test_records_of_schema_4_are_counted_by_their_state(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.executescript(_SCHEMA_4)
    connection.execute("DELETE FROM sessions")
    for name, issuer, grants, revoke_time in _RECORDS_OF_SCHEMA_4:
        connection.execute(
            "INSERT INTO sessions VALUES (?, 1, 100.0, 100.0, 200.0, ?, ?, ?, ?)",
            (name, issuer, "alice" if issuer else "", grants or _GRANTS % 1.0, revoke_time),
        )
    connection.commit()
    connection.close()
    store = await opened(path)
    assert await store.count(150.0) == SessionCounts(1, 2, 4)
    page = await store.page(RecordFilter(id_prefix="~"), size=10)
    assert Counter(map(counted_state, page.records)) == {
        CountedState.REVOKED: 2,
        CountedState.AUTHENTICATED: 1,
    }
    assert await store.sweep(200.0) == 7
    await store.close()


@pytest.mark.parametrize(
    "which",
    [
        RecordFilter(id_prefix="abcdef"),
        RecordFilter(id_prefix="abcdef", issuer="idp", authenticated=True),
        RecordFilter(issuer="idp", subject="alice", id_prefix="abcdef"),
    ],
)
@pytest.mark.parametrize("after", ["", "100.0 abcdef"])
async def test_an_index_finds_records(tmp_path: Path, which: RecordFilter, after: str) -> None:
    store = await opened(tmp_path / "db")
    with closing(connect_read_only(tmp_path / "db")) as connection:
        statement, values = listing._statement(connection, which, after)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert re.match(r"SEARCH sessions USING INDEX \S+ \((id>\? AND id<\?|issuer=.*)\)", plan[0]), (
        plan
    )
    await store.close()


async def test_counts_and_sweeps_read_an_index(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    with closing(connect_read_only(tmp_path / "db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {listing.COUNT}", {"now": 1.0}).fetchall()
    reads = [row[3] for row in plan if "sessions" in row[3]]
    assert len(reads) == 6
    assert all("USING COVERING INDEX" in read for read in reads)
    await store.close()


async def test_an_abandoned_write_does_not_stop_the_writer(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    for number in range(50):
        task = asyncio.create_task(put(store, record(f"s{number}")))
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await put(store, record("last"))
    await store.close()


async def test_a_write_may_have_been_made_once_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path / "db")
    held, release = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        held.set()
        release.wait(TIMEOUT_SECONDS)

    async def is_unanswered(write: Awaitable[object]) -> bool:
        with pytest.raises(AuthError, match="no write has ended") as caught:
            await write
        return caught.value.is_unanswered

    monkeypatch.setattr("authsvc.stores.sqlite.writer.WRITE_SECONDS", 0.1)
    begun = asyncio.create_task(is_unanswered(store._writer.run(hold)))
    assert await asyncio.to_thread(held.wait, TIMEOUT_SECONDS)
    assert not await is_unanswered(put(store, record("s")))
    assert await begun
    release.set()
    monkeypatch.undo()
    assert await put(store, record("last"))
    assert await store.get("s") is None
    await store.close()


async def test_a_write_that_cannot_be_made_fails_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    with pytest.raises(AuthError) as caught:
        await put(store, record("\ud800"))
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert await put(store, record("s"))
    await store.close()


async def test_a_long_sweep_leaves_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(put(store, record(f"s{number}")) for number in range(2500)))
        assert await store.sweep(150.0) == 2500
        await asyncio.gather(*(store.mark_received(str(number), 150.0) for number in range(2500)))
        await store.mark_received("later", 150.5)
        assert await store.sweep(150.0) == 0
    assert [number for number in range(2500) if await store.is_received(str(number))] == []
    assert await store.is_received("later")
    await store.close()


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_RECORDS = st.builds(
    lambda name, revision, expires, subject, revoked: replace(
        record(name, subject=subject),
        revision=revision,
        expire_time=expires,
        revoke_time=revoked,
    ),
    _NAMES,
    st.integers(1, 4),
    st.floats(0, 100),
    st.sampled_from(["", "alice"]),
    st.sampled_from([None, 1.0]),
)
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "touch", "remove"]), _RECORDS),
        st.tuples(st.just("sweep"), st.floats(0, 100)),
    ),
    max_size=30,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_OPERATIONS)
def test_any_sequence_of_operations_leaves_it_equal_to_the_memory_store(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, Record | float]]
) -> None:
    async def outcome(store: SessionStore) -> list[object]:
        seen: list[object] = []
        for name, operand in operations:
            more = (EventType.CREATED,) if name == "put" else ()
            result = await getattr(store, name)(operand, *more)
            seen.append(result is None if name == "put" else result)
        await store.sweep(-1.0)  # waits for what is queued
        seen += [await store.get(name) for name in ("a", "b", "c", "d")]
        seen += [await store.count(now) for now in (-1.0, 50.0, 100.0)]
        await store.close()
        return seen

    async def both() -> tuple[list[object], list[object]]:
        path = tmp_path_factory.mktemp("equal") / "db"
        return await outcome(await opened(path, cap=2)), await outcome(
            MemoryStore(unauthenticated_cap=2)
        )

    in_file, in_memory = asyncio.run(both())
    assert in_file == in_memory
