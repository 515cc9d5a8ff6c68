"""The service against a model of it, and any interleaving against some serial order.

Session id ``""`` asks for the principal session of the subject of the token (rows 16 and 17).
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType
from authsvc.domain.record import Limits, Record, principal_session_id
from authsvc.domain.resolution import Principal, SessionState
from authsvc.resolver.resolver import SessionResolver
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
TTL = 50_000.0
"""Most tokens outlive sessions, so that examples are not all about expired tokens."""


def resolver_over(store: SessionStore, clock: Clock) -> SessionResolver:
    key = VerificationKey(None, "HS256", IDP.secret.encode())
    verifier = JwtVerifier([Issuer(ISSUER, KeySet((key,)), leeway_seconds=LEEWAY)])
    limits = CallerLimits(rejected_tokens_burst=1e9, anonymous_sessions_burst=1e9)
    return SessionResolver(
        verifier, store, None, limits=LIMITS, usages=Usages(limits, clock), clock=clock
    )


@dataclass(frozen=True)
class Presented:
    """A token as the model sees it: its claims, and its text."""

    name: str
    subject: str = ""
    client: str = "c"
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
    ttl: float = TTL,
    client: str = "c",
    resource: str = RESOURCE,
) -> Presented:
    issue_time = START + iat
    text = IDP.token(
        subject, iat=issue_time, exp=issue_time + ttl, aud=resource, roles=[name], client_id=client
    )
    return Presented(name, subject, client, resource, issue_time, issue_time + ttl, text=text)


NOTHING = Presented("nothing")
OLD, NEW = issued("old"), issued("new", iat=10)
SHORT = issued("short", iat=5, ttl=157)  # ends, leeway included, at START + 192
TOKENS = [
    NOTHING,
    OLD,
    NEW,
    SHORT,
    issued("twin"),  # of OLD, with other claims
    issued("longer", ttl=TTL + 1),  # than OLD, issued with it
    issued("later", iat=200),  # than the revocations that come first
    issued("there", iat=3, resource=OTHER_RESOURCE),
    issued("elsewhere", iat=8, client="d"),
    issued("mallory", "mallory", iat=20),
    Presented("forged", valid=False, text=IDP.forged()),
    Presented("rubbish", valid=False, text="rubbish"),
]


class Result(NamedTuple):
    """The response to a call.

    Attributes:
        outcome: or the reason.
        role: of the principal, which tells whose claims they are.
        revision: of the session.
        end: its ``expire_time``.
    """

    outcome: str
    role: str = ""
    revision: int = 0
    end: float = 0.0


async def outcome(call: Coroutine[Any, Any, Any]) -> Result:
    try:
        answer = await call
    except AuthError as error:
        return Result(error.reason.name)
    if isinstance(answer, str):  # of a revocation
        return Result("DONE")
    if answer.session is None:
        assert (answer.outcome, answer.principal) == (None, None)
        return Result("NONE")
    authenticated = answer.session.state is SessionState.AUTHENTICATED
    assert authenticated == (answer.principal is not None)
    role = answer.principal.roles[0] if answer.principal else ""
    return Result(answer.outcome.name, role, answer.session.revision, answer.session.expire_time)


# The model: docs/sessions.md again, in the simplest code.

Key = tuple[str, ...]
"""(id,) of a session; (subject, client, resource) of a principal session."""


@dataclass
class Row:
    """A session as the model keeps it."""

    created: float
    seen: float
    end: float = 0.0
    revision: int = 1
    subject: str = ""
    current: dict[str, Presented] = field(default_factory=dict)
    revoked: float | None = None

    def see(self, now: float) -> None:
        self.seen = now
        self.end = min(now + self.idle(), self.created + LIMITS.absolute_seconds)

    def touch(self, now: float) -> None:
        if now - self.seen >= self.idle() / 100:
            self.see(now)

    def idle(self) -> float:
        if self.subject:
            return LIMITS.authenticated_idle_seconds
        return LIMITS.unauthenticated_idle_seconds

    def answer(self, outcome: str, role: str = "") -> Result:
        return Result(outcome, role, self.revision, self.end)

    def facts(self) -> tuple[object, ...]:
        grants = {resource: (it.iat, it.exp) for resource, it in self.current.items()}
        times = (self.created, self.seen, self.end, self.revoked)
        return self.revision, times, self.subject, grants


def facts(record: Record) -> tuple[object, ...]:
    """The facts of ``Row.facts``, from a stored record."""
    grants = {name: (it.issue_time, it.expire_time) for name, it in record.grants.items()}
    times = (record.create_time, record.last_seen_time, record.expire_time, record.revoke_time)
    return record.revision, times, record.subject, grants


class Model:
    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def rejection(self, token: Presented, resource: str, now: float) -> str:
        if token.name == "rubbish":
            return "TOKEN_MALFORMED"
        if not token.valid:
            return "TOKEN_SIGNATURE_INVALID"
        if now >= token.exp + LEEWAY:
            return "TOKEN_EXPIRED"
        if now < token.iat - LEEWAY:
            return "TOKEN_NOT_YET_VALID"
        return "" if token.resource == resource else "TOKEN_AUDIENCE_MISMATCH"

    def resolve(
        self, name: str, token: Presented, resource: str, create: bool, now: float
    ) -> Result:
        if not name:
            return self.without_session_id(token, resource, now)
        row = self.rows.get((name,))
        if row is None and not create:
            return Result("SESSION_NOT_FOUND")
        if row is not None and now >= row.end:
            del self.rows[name,]
            return Result("SESSION_EXPIRED" if row.revoked is None else "SESSION_NOT_FOUND")
        if row is not None and row.revoked is not None:
            return Result("SESSION_REVOKED")
        if token is NOTHING:
            return self.without_token(name, row, now)
        if reason := self.rejection(token, resource, now):
            return Result(reason)
        if row is None:
            return self.created((name,), Row(now, now), token, now)
        return self.with_token(row, token, resource, now)

    def without_session_id(self, token: Presented, resource: str, now: float) -> Result:
        if token is NOTHING:
            return Result("NONE")
        if reason := self.rejection(token, resource, now):
            return Result(reason)
        key = (token.subject, token.client, resource)
        row = self.rows.get(key)
        if row is None:
            return self.created(key, Row(now, now), token, now)
        if row.revoked is not None and token.iat <= row.revoked:
            return Result("SESSION_REVOKED")
        if now >= row.end:
            anew = Row(now, now, revision=row.revision + 1, revoked=row.revoked)
            return self.created(key, anew, token, now)
        return self.with_token(row, token, resource, now)

    def created(self, key: Key, row: Row, token: Presented, now: float) -> Result:
        self.rows[key] = row
        row.subject = token.subject
        row.current[token.resource] = token
        row.see(now)
        return row.answer("CREATED", token.name)

    def without_token(self, name: str, row: Row | None, now: float) -> Result:
        if row is None:
            row = self.rows[name,] = Row(now, now)
            row.see(now)
            return row.answer("CREATED")
        if not row.subject:
            row.touch(now)
        return row.answer("REUSED")

    def with_token(self, row: Row, token: Presented, resource: str, now: float) -> Result:
        if row.subject and row.subject != token.subject:
            return Result("SESSION_SUBJECT_MISMATCH")
        current = row.current.get(resource)
        if current is not None and (token.iat, token.exp) <= (current.iat, current.exp):
            row.touch(now)
            return row.answer("REUSED", token.name)
        row.subject = token.subject
        row.current[resource] = token
        row.revision += 1
        row.see(now)
        return row.answer("REAUTHENTICATED", token.name)

    def revoke(self, key: Key, now: float) -> Result:
        row = self.rows.get(key)
        again = row is not None and row.revoked is not None and len(key) == 1
        if row is not None and not again and now < row.end:
            row.revoked, row.end = now, now + LIMITS.tombstone_seconds
            row.revision += 1
        return Result("DONE")


def session_id(key: Key) -> str:
    """The id of a session, or a principal session, in the store."""
    if len(key) == 1:
        return key[0]
    subject, client, resource = key
    return principal_session_id(Principal(ISSUER, subject, 0.0, client_id=client), resource)


PRINCIPALS = sorted({(it.subject, it.client, it.resource) for it in TOKENS if it.subject})
KEYS: list[Key] = [("s",), *PRINCIPALS]
ALICES = (OLD.subject, OLD.client, OLD.resource)
WAITS = st.sampled_from([0] * 6 + [1, 10, 50, 99, 100, 299, 300, 999, 1000, 2500])
"""On both sides of each limit, and mostly short: an ended session has few ways to be wrong."""


class Service(RuleBasedStateMachine):
    """Any sequence of calls and clock steps gets the responses of the model."""

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
        wait_seconds=WAITS,
        name=st.sampled_from(["s", ""]),
        token=st.sampled_from(TOKENS),
        # Its own resource as a rule: at another it is rejected, and that needs few examples.
        resource=st.sampled_from([None, None, None, RESOURCE, OTHER_RESOURCE]),
        create=st.sampled_from([True, True, False]),
    )
    def resolve(
        self,
        wait_seconds: float,
        name: str,
        token: Presented,
        resource: str | None,
        create: bool,
    ) -> None:
        self.clock.advance(wait_seconds)
        where = resource or token.resource
        expected = self.model.resolve(name, token, where, create, self.clock.now)
        self.check(self.resolver.resolve(name, token.text, resource=where, create=create), expected)

    @rule(wait_seconds=WAITS, key=st.sampled_from([("s",), ALICES]))
    def revoke(self, wait_seconds: float, key: Key) -> None:
        self.clock.advance(wait_seconds)
        expected = self.model.revoke(key, self.clock.now)
        self.check(self.resolver.revoke(session_id(key)), expected)

    def check(self, call: Coroutine[Any, Any, Any], expected: Result) -> None:
        """The response is the model's, and so is each record afterwards."""
        self.loop.run_until_complete(self.checked(call, expected))

    async def checked(self, call: Coroutine[Any, Any, Any], expected: Result) -> None:
        assert await outcome(call) == expected
        # A touch need not have been written when it returns, and this clock leaps where a real one
        # would have left the time for it. Writes are carried out in order: this one is the last.
        await self.store.remove(Record("unknown", 1, 0.0, 0.0, 0.0))
        for key in KEYS:
            row, record = self.model.rows.get(key), await self.store.get(session_id(key))
            assert (record and facts(record)) == (row and row.facts())

    @rule()
    def sweep(self) -> None:
        self.loop.run_until_complete(self.store.sweep(self.clock.now))
        for key, row in list(self.model.rows.items()):
            if self.clock.now >= row.end:
                del self.model.rows[key]

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
TestOverMemory.settings = settings(max_examples=200, stateful_step_count=30)
TestOverSqlite = OverSqlite.TestCase
TestOverSqlite.settings = settings(max_examples=50, stateful_step_count=30)


# Interleavings: operations begin when the schedule says so, each of their calls to the store waits
# for its turn, and once the clock moves on.

TICK = "tick"
TICK_SECONDS = 5.0


@dataclass
class Span:
    """When an operation ran, in turns, and what the clock showed meanwhile."""

    began: int = 0
    ended: int = 0
    times: set[float] = field(default_factory=set)


class Turns:
    """Lets one operation go on at a time, in an order that the test decides."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._running: set[int] = set()
        self.spans: list[Span] = []

    async def wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def run(
        self, calls: list[Coroutine[Any, Any, Result]], schedule: list[int | str]
    ) -> list[Result]:
        self.spans = [Span() for _ in calls]
        tasks = [
            asyncio.ensure_future(self._spanned(index, call)) for index, call in enumerate(calls)
        ]
        steps: Iterator[int | str] = itertools.chain(schedule, itertools.repeat(0))
        for _ in range(2000):
            left = sum(not task.done() for task in tasks)
            if not left:
                return [task.result() for task in tasks]
            if len(self._waiting) == left:
                self._step(next(steps))
            await asyncio.sleep(0)
        raise AssertionError("they never end")

    def _step(self, step: int | str) -> None:
        if isinstance(step, str):
            self._clock.advance(TICK_SECONDS)
            for index in self._running:
                self.spans[index].times.add(self._clock.now)
        else:
            self._turn += 1
            self._waiting.pop(step % len(self._waiting)).set_result(None)

    async def _spanned(self, index: int, call: Coroutine[Any, Any, Result]) -> Result:
        await self.wait()
        self._running.add(index)
        span = self.spans[index]
        span.began, span.times = self._turn, {self._clock.now}
        result = await call
        self._running.remove(index)
        span.ended = self._turn
        return result


class StoreByTurns:
    """A store whose every call that asks it waits for its turn; its cache answers at once."""

    def __init__(self, store: SessionStore, turns: Turns) -> None:
        self._store = store
        self._turns = turns

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)

    async def get(self, session_id: str) -> Record | None:
        await self._turns.wait()
        return await self._store.get(session_id)

    async def put(self, record: Record, event: EventType) -> str | None:
        await self._turns.wait()
        return await self._store.put(record, event)

    async def touch(self, record: Record) -> None:
        await self._turns.wait()
        await self._store.touch(record)

    async def remove(self, record: Record) -> None:
        await self._turns.wait()
        await self._store.remove(record)

    async def sweep(self, now: float) -> int:
        await self._turns.wait()
        return await self._store.sweep(now)


@dataclass(frozen=True)
class Operation:
    """A resolve, or with ``revoke`` the revocation of what ``session_id(key)`` names."""

    token: Presented = NOTHING
    create: bool = True
    name: str = "s"
    revoke: Key | None = None

    def on(self, resolver: SessionResolver) -> Coroutine[Any, Any, Result]:
        if self.revoke is not None:
            return outcome(resolver.revoke(session_id(self.revoke)))
        resource = self.token.resource
        call = resolver.resolve(self.name, self.token.text, resource=resource, create=self.create)
        return outcome(call)


OPERATIONS = st.one_of(
    st.builds(Operation, st.sampled_from(TOKENS), st.booleans(), st.sampled_from(["s", ""])),
    st.builds(Operation, revoke=st.sampled_from([("s",), ALICES])),
)

Seen = tuple[list[Result], list[Record | None]]
"""The response to each operation, and what is stored in the end."""


@dataclass(frozen=True)
class Scene:
    """The operations and the time before the interleaving."""

    before: list[Operation]
    pause_seconds: float = 0.0

    async def set(self) -> tuple[MemoryStore, Clock]:
        store, clock = MemoryStore(unauthenticated_cap=100), Clock(START + 100)
        for operation in self.before:
            await operation.on(resolver_over(store, clock))
        clock.advance(self.pause_seconds)
        return store, clock


async def seen_by_all(results: list[Result], store: SessionStore) -> Seen:
    """The result, without what touches write: they are best effort, and docs/sessions.md exempts
    them from "unchanged". The sequences of the model above check them."""
    answered = [it._replace(end=0.0) if it.outcome == "REUSED" else it for it in results]
    return answered, [_without_touch(await store.get(session_id(key))) for key in KEYS]


def _without_touch(record: Record | None) -> Record | None:
    if record is None:
        return None
    tombstone = record.revoke_time is not None
    end = record.expire_time if tombstone else 0.0
    return replace(record, last_seen_time=0.0, expire_time=end)


async def serially(
    scene: Scene, operations: list[Operation], order: Iterable[int], times: tuple[float, ...]
) -> Seen:
    store, clock = await scene.set()
    resolver = resolver_over(store, clock)
    results = [Result("")] * len(operations)
    for index in order:
        clock.now = times[index]
        results[index] = await operations[index].on(resolver)
    return await seen_by_all(results, store)


def real_time(order: tuple[int, ...], spans: list[Span]) -> bool:
    """Whether each operation that ended before another began comes before it."""
    pairs = itertools.combinations(order, 2)
    return all(spans[later].ended >= spans[earlier].began for earlier, later in pairs)


async def check(scene: Scene, operations: list[Operation], schedule: list[int | str]) -> None:
    """Each operation took effect at once, at some time while it ran (linearizability)."""
    store, clock = await scene.set()
    turns = Turns(clock)
    resolver = resolver_over(cast("SessionStore", StoreByTurns(store, turns)), clock)
    results = await turns.run([operation.on(resolver) for operation in operations], schedule)
    seen = await seen_by_all(results, store)
    for order in itertools.permutations(range(len(operations))):
        if real_time(order, turns.spans):
            for times in itertools.product(*(sorted(span.times) for span in turns.spans)):
                if seen == await serially(scene, operations, order, times):
                    return
    raise AssertionError(f"no serial order answers {seen}")


@st.composite
def schedules(draw: st.DrawFn) -> list[int | str]:
    steps: list[int | str] = list(draw(st.lists(st.integers(0, 3), max_size=20)))
    if draw(st.booleans()):
        steps.insert(draw(st.integers(0, len(steps))), TICK)
    return steps


@settings(max_examples=400)
@given(
    before=st.lists(OPERATIONS, max_size=2),
    # After the longer one records are touched, and SHORT ends at the tick.
    pause_seconds=st.sampled_from([0.0, 90.0]),
    operations=st.lists(OPERATIONS, min_size=2, max_size=4),
    schedule=schedules(),
)
def test_any_interleaving_is_some_serial_order(
    before: list[Operation],
    pause_seconds: float,
    operations: list[Operation],
    schedule: list[int | str],
) -> None:
    asyncio.run(check(Scene(before, pause_seconds), operations, schedule))


@pytest.mark.parametrize("name", ["s", ""])
@pytest.mark.parametrize("schedule", list(itertools.product(range(2), repeat=7)))
def test_a_revocation_between_read_and_write_is_not_lost(
    schedule: tuple[int, ...], name: str
) -> None:
    scene = Scene([Operation(OLD, name=name)])
    operations = [Operation(NEW, name=name), Operation(revoke=ALICES if not name else ("s",))]
    asyncio.run(check(scene, operations, list(schedule)))


def test_a_late_removal_does_not_take_the_session_that_came_after() -> None:
    asyncio.run(check_late_removal())


async def check_late_removal() -> None:
    store, clock = await Scene([Operation()], pause_seconds=150.0).set()
    turns = Turns(clock)
    resolver = resolver_over(cast("SessionStore", StoreByTurns(store, turns)), clock)
    late, first, anew = Operation(create=False), Operation(create=False), Operation(OLD)
    # `late` has read the expired record when `first` removes it and `anew` takes its place.
    schedule: list[int | str] = [0, 2, 0, 2, 2, 0, 1, 1, 0]
    results = await turns.run([it.on(resolver) for it in (late, first, anew)], schedule)
    expected = ["SESSION_EXPIRED", "SESSION_EXPIRED", "CREATED"]
    if [result.outcome for result in results] != expected:
        pytest.fail(f"another schedule than this test means: {results}")
    assert await store.get("s") is not None
