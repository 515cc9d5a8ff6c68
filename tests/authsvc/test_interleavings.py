"""The service against a model of it, and any interleaving against some serial order."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from authsvc.errors import AuthError
from authsvc.limits import CallerLimits, Usages
from authsvc.resolver import SessionResolver
from authsvc.sessions import Limits, Record
from authsvc.stores import SessionStore
from authsvc.stores.memory import MemoryStore
from authsvc.stores.sqlite import SqliteStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.clock import START, Clock
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

IDP = IdentityProvider()
LIMITS = Limits(
    unauthenticated_idle_seconds=100,
    authenticated_idle_seconds=1000,
    absolute_seconds=5000,
    tombstone_seconds=300,
)
LEEWAY = 30.0


def resolver_over(store: SessionStore, clock: Clock) -> SessionResolver:
    key = VerificationKey(None, "HS256", IDP.secret.encode())
    verifier = JwtVerifier([Issuer(ISSUER, KeySet((key,)), leeway_seconds=LEEWAY)])
    limits = CallerLimits(refused_tokens_burst=1e9, anonymous_sessions_burst=1e9)
    return SessionResolver(
        verifier, store, None, limits=LIMITS, usages=Usages(limits, clock), clock=clock
    )


@dataclass(frozen=True)
class Presented:
    """A token as the model sees it: facts, and the text that carries them."""

    name: str
    subject: str = ""
    resource: str = RESOURCE
    iat: float = START
    exp: float = START
    valid: bool = True
    text: str = field(default="", compare=False, repr=False)


def issued(
    name: str,
    subject: str = "alice",
    *,
    iat: float = 0,
    ttl: float = 2000,
    resource: str = RESOURCE,
) -> Presented:
    issue_time = START + iat
    text = IDP.token(
        subject, iat=issue_time, exp=issue_time + ttl, aud=resource, roles=[name], client_id="c"
    )
    return Presented(name, subject, resource, issue_time, issue_time + ttl, text=text)


NOTHING = Presented("nothing")
TOKENS = [
    NOTHING,
    issued("old"),
    issued("new", iat=10),
    issued("short", iat=5, ttl=200),
    issued("there", iat=3, resource=OTHER_RESOURCE),
    issued("mallory", "mallory", iat=20),
    Presented("forged", valid=False, text=IDP.forged()),
    Presented("rubbish", valid=False, text="rubbish"),
]

Result = tuple[str, str]
"""(outcome or reason, role of the principal)."""


async def outcome(call: Coroutine[Any, Any, Any]) -> Result:
    try:
        answer = await call
    except AuthError as error:
        return error.reason.name, ""
    if answer is None:
        return "DONE", ""
    role = answer.principal.roles[0] if answer.principal else ""
    return (answer.outcome.name if answer.outcome else "NONE"), role


# The model: docs/sessions.md once more, as plainly as it can be said.


@dataclass
class Row:
    """A session as the model remembers it."""

    created: float
    seen: float
    subject: str = ""
    current: dict[str, Presented] = field(default_factory=dict)
    revoked: float | None = None

    def idle(self) -> float:
        if self.subject:
            return LIMITS.authenticated_idle_seconds
        return LIMITS.unauthenticated_idle_seconds


class Model:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def refused(self, token: Presented, resource: str, now: float) -> str:
        if token.name == "rubbish":
            return "TOKEN_MALFORMED"
        if not token.valid:
            return "TOKEN_SIGNATURE_INVALID"
        if now >= token.exp + LEEWAY:
            return "TOKEN_EXPIRED"
        if now < token.iat - LEEWAY:
            return "TOKEN_NOT_YET_VALID"
        return "" if token.resource == resource else "TOKEN_AUDIENCE_MISMATCH"

    def ends(self, row: Row) -> float:
        if row.revoked is not None:
            return row.revoked + LIMITS.tombstone_seconds
        idle = row.idle()
        return min(row.seen + idle, row.created + LIMITS.absolute_seconds)

    def resolve(
        self, name: str, token: Presented, resource: str, create: bool, now: float
    ) -> Result:
        row = self.rows.get(name)
        if row is None and not create:
            return "SESSION_NOT_FOUND", ""
        if row is not None and now >= self.ends(row):
            del self.rows[name]
            return ("SESSION_EXPIRED" if row.revoked is None else "SESSION_NOT_FOUND"), ""
        if row is not None and row.revoked is not None:
            return "SESSION_REVOKED", ""
        if token is NOTHING:
            return self.without_token(name, row, now)
        if reason := self.refused(token, resource, now):
            return reason, ""
        if row is None:
            self.rows[name] = Row(now, now, token.subject, {resource: token})
            return "CREATED", token.name
        return self.with_token(row, token, resource, now)

    def without_token(self, name: str, row: Row | None, now: float) -> Result:
        if row is None:
            self.rows[name] = Row(now, now)
            return "CREATED", ""
        if not row.subject:
            self.touch(row, now)
        return "REUSED", ""

    def with_token(self, row: Row, token: Presented, resource: str, now: float) -> Result:
        if row.subject and row.subject != token.subject:
            return "SESSION_SUBJECT_MISMATCH", ""
        current = row.current.get(resource)
        if current is not None and (token.iat, token.exp) <= (current.iat, current.exp):
            self.touch(row, now)
            return "REUSED", token.name
        row.subject, row.seen = token.subject, now
        row.current[resource] = token
        return "REAUTHENTICATED", token.name

    def touch(self, row: Row, now: float) -> None:
        idle = row.idle()
        if now - row.seen >= idle / 100:
            row.seen = now

    def revoke(self, name: str, now: float) -> Result:
        row = self.rows.get(name)
        if row is not None and row.revoked is None and now < self.ends(row):
            row.revoked = now
        return "DONE", ""


class Service(RuleBasedStateMachine):
    """Any sequence of calls and clock steps answers as the model does."""

    open_store: Callable[[Path], Coroutine[Any, Any, SessionStore]]

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock(START + 100)
        self.model = Model()
        self.store = self.loop.run_until_complete(self.open_store(Path(self.folder.name)))
        self.resolver = resolver_over(self.store, self.clock)

    @rule(
        name=st.sampled_from(["s", "t"]),
        token=st.sampled_from(TOKENS),
        resource=st.sampled_from([RESOURCE, OTHER_RESOURCE]),
        create=st.booleans(),
    )
    def resolve(self, name: str, token: Presented, resource: str, create: bool) -> None:
        expected = self.model.resolve(name, token, resource, create, self.clock.now)
        call = self.resolver.resolve(name, token.text, resource=resource, create=create)
        assert self.loop.run_until_complete(outcome(call)) == expected

    @rule(name=st.sampled_from(["s", "t"]))
    def revoke(self, name: str) -> None:
        expected = self.model.revoke(name, self.clock.now)
        assert self.loop.run_until_complete(outcome(self.resolver.revoke(name))) == expected

    @rule(seconds=st.sampled_from([1, 50, 99, 100, 101, 299, 300, 999, 1000, 2500]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.loop.run_until_complete(self.store.sweep(self.clock.now))
        for name, row in list(self.model.rows.items()):
            if self.clock.now >= self.model.ends(row):
                del self.model.rows[name]

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.store.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()


class OverMemory(Service):
    @staticmethod
    async def open_store(folder: Path) -> SessionStore:
        return MemoryStore(unauthenticated_cap=100)


class OverSqlite(Service):
    @staticmethod
    async def open_store(folder: Path) -> SessionStore:
        return await SqliteStore.open(folder / "db", unauthenticated_cap=100)


TestOverMemory = OverMemory.TestCase
TestOverMemory.settings = settings(max_examples=150, stateful_step_count=30)
TestOverSqlite = OverSqlite.TestCase
TestOverSqlite.settings = settings(max_examples=25, stateful_step_count=30)


# Interleavings.


class Turns:
    """Lets one store call through at a time, in an order that the test decides."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        await turn

    async def run(self, calls: list[Coroutine[Any, Any, Result]], order: list[int]) -> list[Result]:
        tasks = [asyncio.ensure_future(call) for call in calls]
        choices = itertools.chain(order, itertools.repeat(0))
        for _ in range(2000):
            running = [task for task in tasks if not task.done()]
            if not running:
                return [task.result() for task in tasks]
            if len(self.waiting) < len(running):
                await asyncio.sleep(0)
                continue
            self.waiting.pop(next(choices) % len(self.waiting)).set_result(None)
            await asyncio.sleep(0)
        raise AssertionError("they never end")


class StoreByTurns:
    """A store whose every call waits for its turn."""

    def __init__(self, store: SessionStore, turns: Turns) -> None:
        self._store = store
        self._turns = turns

    async def get(self, session_id: str) -> Record | None:
        await self._turns.wait()
        return await self._store.get(session_id)

    async def put(self, record: Record) -> bool:
        await self._turns.wait()
        return await self._store.put(record)

    async def touch(self, record: Record) -> None:
        await self._turns.wait()
        await self._store.touch(record)

    async def remove(self, record: Record) -> None:
        await self._turns.wait()
        await self._store.remove(record)

    async def sweep(self, now: float) -> int:
        await self._turns.wait()
        return await self._store.sweep(now)

    async def close(self) -> None:
        await self._store.close()


@dataclass(frozen=True)
class Operation:
    """A resolve of the one session, or with ``revoke`` its revocation."""

    token: Presented = NOTHING
    create: bool = True
    revoke: bool = False

    def on(self, resolver: SessionResolver) -> Coroutine[Any, Any, Result]:
        if self.revoke:
            return outcome(resolver.revoke("s"))
        resource = self.token.resource
        call = resolver.resolve("s", self.token.text, resource=resource, create=self.create)
        return outcome(call)


OPERATIONS = st.one_of(
    st.builds(Operation, st.sampled_from(TOKENS), st.booleans()), st.just(Operation(revoke=True))
)


async def prepared(before: list[Operation]) -> tuple[MemoryStore, Clock]:
    store, clock = MemoryStore(unauthenticated_cap=100), Clock(START + 100)
    for operation in before:
        await operation.on(resolver_over(store, clock))
    return store, clock


async def serially(
    before: list[Operation], operations: list[Operation], order: tuple[int, ...]
) -> tuple[list[Result], Record | None]:
    store, clock = await prepared(before)
    resolver = resolver_over(store, clock)
    results: dict[int, Result] = {}
    for index in order:
        results[index] = await operations[index].on(resolver)
    return [results[index] for index in range(len(operations))], await store.get("s")


async def interleaved(
    before: list[Operation], operations: list[Operation], order: list[int]
) -> tuple[list[Result], Record | None]:
    store, clock = await prepared(before)
    turns = Turns()
    resolver = resolver_over(StoreByTurns(store, turns), clock)
    results = await turns.run([operation.on(resolver) for operation in operations], order)
    return results, await store.get("s")


async def check(before: list[Operation], operations: list[Operation], order: list[int]) -> None:
    seen = await interleaved(before, operations, order)
    orders = itertools.permutations(range(len(operations)))
    allowed = [await serially(before, operations, serial) for serial in orders]
    assert seen in allowed


@settings(max_examples=400)
@given(
    before=st.lists(OPERATIONS, max_size=2),
    operations=st.lists(OPERATIONS, min_size=2, max_size=4),
    order=st.lists(st.integers(0, 3), max_size=16),
)
def test_any_interleaving_is_some_serial_order(
    before: list[Operation], operations: list[Operation], order: list[int]
) -> None:
    asyncio.run(check(before, operations, order))


@pytest.mark.parametrize("order", list(itertools.product(range(2), repeat=5)))
def test_a_revocation_between_read_and_write_is_not_lost(order: tuple[int, ...]) -> None:
    before = [Operation(TOKENS[1])]
    asyncio.run(check(before, [Operation(TOKENS[2]), Operation(revoke=True)], list(order)))
