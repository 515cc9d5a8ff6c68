"""Replicas agree on the keys, through races, failures and a lost store."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.assertions.jwks_endpoint import MAX_AGE_SECONDS as CACHED_SECONDS
from authsvc.assertions.key_ring import (
    DOCUMENT_NAME,
    MAX_AGE_SECONDS,
    MAX_ATTEMPTS,
    KeyRing,
    replace_keys,
)
from authsvc.assertions.key_set import DAY_SECONDS, KeySet, KeySetFormatError, ahead_seconds
from authsvc.assertions.sealing import FileSeal, NoSeal, Seal, SealError
from authsvc.assertions.signer import Assertions
from authsvc.domain.errors import AuthError, Reason
from authsvc.stores.documents import Document
from authsvc.stores.memory import MemoryStore
from tests.authsvc.assertions.test_sealing import OTHER, secret_file
from tests.authsvc.assertions.test_signer import ALICE, FILES, ISSUER, SESSION, of
from tests.support.clock import START, Clock

pytestmark = pytest.mark.anyio

MONTH = 30 * DAY_SECONDS


class Store:
    """A store of documents that can fail, and that others can write to in between."""

    def __init__(self) -> None:
        self.kept = MemoryStore(unauthenticated_cap=1)
        self.down = False
        self.loses_answers = False
        self.before_put: Callable[[], Awaitable[object]] | None = None
        self.unconfirmed = False
        self.reads = self.writes = self.confirmations = 0

    async def document(self, name: str) -> Document | None:
        self.reads += 1
        await asyncio.sleep(0)
        self._check()
        return await self.kept.document(name)

    async def confirm_document(self, name: str) -> None:
        self.confirmations += 1
        self._check()
        if self.unconfirmed:
            raise AuthError(Reason.STORE_UNAVAILABLE, "confirmed by 0 of 1 replicas")

    async def put_document(self, name: str, document: Document) -> bool:
        self.writes += 1
        await asyncio.sleep(0)
        self._check()
        if self.before_put is not None:
            await self.before_put()
        written = await self.kept.put_document(name, document)
        if self.loses_answers:
            raise AuthError(Reason.STORE_UNAVAILABLE, "the answer was lost")
        return written

    def _check(self) -> None:
        if self.down:
            raise AuthError(Reason.STORE_UNAVAILABLE, "down")


def ring(
    store: Store, clock: Callable[[], float], seal: Seal | None = None, rotation: float = MONTH
) -> KeyRing:
    return KeyRing(store, seal or NoSeal(), rotation_seconds=rotation, clock=clock)


def ids(keys: KeyRing) -> list[str]:
    return [key["kid"] for key in json.loads(keys.jwks())["keys"]]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_replicas_that_start_at_once_agree(store: Store, clock: Clock) -> None:
    rings = [ring(store, clock) for _ in range(10)]
    await asyncio.gather(*(it.load() for it in rings))
    assert len({it.signing_key(START).kid for it in rings}) == 1
    assert len({it.jwks() for it in rings}) == 1


async def test_replicas_that_rotate_at_once_agree(store: Store, clock: Clock) -> None:
    rings = [ring(store, clock) for _ in range(10)]
    await asyncio.gather(*(it.load() for it in rings))
    clock.advance(MONTH)
    await asyncio.gather(*(it.load() for it in rings))
    assert len({it.jwks() for it in rings}) == 1
    assert len(ids(rings[0])) == 2


async def test_a_restart_finds_the_keys(store: Store, clock: Clock) -> None:
    first = ring(store, clock)
    await first.load()
    clock.advance(500)
    second = ring(store, clock)
    await second.load()
    assert second.jwks() == first.jwks()
    assert second.signing_key(clock()).sign_time == START
    assert store.writes == 1


async def test_unchanged_keys_are_read_and_not_written(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    path = secret_file(tmp_path)
    keys = ring(store, clock, FileSeal(path))
    await keys.load()
    path.unlink()  # what has not changed is not decrypted again
    for _ in range(5):
        clock.advance(10)
        await keys.load()
    assert (store.reads, store.writes) == (6, 1)
    assert keys.ages() == (0.0, 50.0)


async def test_a_write_whose_answer_is_lost_is_found_again(store: Store, clock: Clock) -> None:
    keys = ring(store, clock)
    store.loses_answers = True
    with pytest.raises(AuthError):
        await keys.load()
    with pytest.raises(AuthError):
        keys.signing_key(clock())
    store.loses_answers = False
    await keys.load()
    other = ring(store, clock)
    await other.load()
    assert ids(keys) == ids(other)
    stored = await store.kept.document(DOCUMENT_NAME)
    assert stored is not None
    assert stored.revision == 1


async def test_a_lost_race_is_decided_again(store: Store, clock: Clock) -> None:
    other = ring(store, clock)

    async def first() -> None:
        store.before_put = None
        await other.load()

    store.before_put = first
    keys = ring(store, clock)
    await keys.load()
    assert ids(keys) == ids(other)


async def test_it_does_not_race_without_end(store: Store, clock: Clock) -> None:
    async def disturb() -> None:
        stored = await store.kept.document(DOCUMENT_NAME)
        revision = stored.revision + 1 if stored else 1
        content = KeySet.generated(START - 2 * MONTH).encoded()
        assert await store.kept.put_document(DOCUMENT_NAME, Document(revision, content))

    store.before_put = disturb
    with pytest.raises(AuthError) as caught:
        await ring(store, clock).load()
    assert caught.value.reason is Reason.CONFLICT
    assert store.writes == MAX_ATTEMPTS
    with pytest.raises(AuthError) as caught:
        await replace_keys(store, NoSeal(), START)
    assert caught.value.reason is Reason.CONFLICT


# Failures.


async def test_keys_serve_while_the_store_is_unavailable_for_a_while(
    store: Store, clock: Clock
) -> None:
    keys = ring(store, clock)
    await keys.load()
    store.down = True
    clock.advance(MAX_AGE_SECONDS)
    await keys.refresh()
    assert [keys.signing_key(clock()).kid] == ids(keys)
    clock.advance(0.1)
    for use in (lambda: keys.signing_key(clock()), keys.jwks):
        with pytest.raises(AuthError) as caught:
            use()
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE
        assert caught.value.retry_after_seconds
    store.down = False
    await keys.refresh()
    assert [keys.signing_key(clock()).kid] == ids(keys)


async def test_a_failure_is_logged_once(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = ring(store, clock)
    await keys.load()
    store.down = True
    for _ in range(3):
        await keys.refresh()
    store.down = False
    for _ in range(3):
        await keys.refresh()
    text = caplog.text
    assert text.count("the keys of assertions cannot be loaded: STORE_UNAVAILABLE: down") == 1
    assert text.count("the keys of assertions are loaded again") == 1


async def test_keys_that_cannot_be_decrypted_are_never_replaced(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    seal = FileSeal(secret_file(tmp_path))
    await ring(store, clock, seal).load()
    before = await store.kept.document(DOCUMENT_NAME)
    secret_file(tmp_path, OTHER)
    keys = ring(store, clock, seal)
    with pytest.raises(SealError, match="does not decrypt"):
        await keys.load()
    with pytest.raises(AuthError):
        keys.signing_key(clock())
    assert await store.kept.document(DOCUMENT_NAME) == before


async def test_keys_that_changed_and_cannot_be_read_end_the_old_ones(
    store: Store, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(tmp_path)
    keys = ring(store, clock, FileSeal(path))
    await keys.load()
    other = tmp_path / "other"
    other.mkdir()
    await replace_keys(store, FileSeal(secret_file(other, OTHER)), clock())
    await keys.refresh()
    with pytest.raises(AuthError):
        keys.signing_key(clock())
    with pytest.raises(AuthError):
        keys.jwks()
    assert "assertions.encryption_key_file" in caplog.text
    assert keys.ages() is None


async def test_a_key_set_of_a_later_version_is_not_replaced(store: Store, clock: Clock) -> None:
    later = Document(1, b'{"format": 2, "keys": []}')
    await store.put_document(DOCUMENT_NAME, later)
    with pytest.raises(KeySetFormatError, match="later version"):
        await ring(store, clock).load()
    assert await store.kept.document(DOCUMENT_NAME) == later


async def test_a_next_key_that_cannot_be_encrypted_leaves_the_last_ones(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    path = secret_file(tmp_path)
    keys = ring(store, clock, FileSeal(path))
    await keys.load()
    path.unlink()
    clock.advance(MONTH)
    with pytest.raises(SealError):
        await keys.load()
    assert keys.signing_key(clock()).sign_time == START
    secret_file(tmp_path)
    await keys.load()
    assert len(ids(keys)) == 2


async def test_a_store_that_lost_the_keys_gets_those_in_use(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ring(store, clock)
    await keys.load()
    before = ids(keys)
    store.kept = MemoryStore(unauthenticated_cap=1)
    await keys.load()
    other = ring(store, clock)
    await other.load()
    assert ids(keys) == ids(other) == before
    assert "has lost its keys" in caplog.text


async def test_keys_are_confirmed_before_they_are_used(store: Store, clock: Clock) -> None:
    await ring(store, clock).load()
    store.unconfirmed = True
    keys = ring(store, clock)
    with pytest.raises(AuthError):
        await keys.load()
    with pytest.raises(AuthError):
        keys.signing_key(clock())
    store.unconfirmed = False
    await keys.load()
    before = ids(keys)
    # What was confirmed once stays in use while no replica of the store could confirm it.
    store.unconfirmed = True
    for _ in range(100):
        clock.advance(10)
        await keys.load()
    assert ids(keys) == before
    assert store.confirmations == 2


async def test_a_store_with_older_keys_decides_and_is_reported(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ring(store, clock)
    await keys.load()
    older, before = await store.document(DOCUMENT_NAME), ids(keys)
    assert older is not None
    clock.advance(MONTH)
    await keys.load()
    assert "older keys" not in caplog.text
    store.kept = MemoryStore(unauthenticated_cap=1)
    await store.put_document(DOCUMENT_NAME, older)
    await keys.load()
    assert ids(keys)[:1] == before
    assert "the store has older keys than before" in caplog.text


# The emergency.


async def test_replaced_keys_sign_at_once_and_withdraw_all_others(
    store: Store, clock: Clock
) -> None:
    rings = [ring(store, clock) for _ in range(3)]
    for it in rings:
        await it.load()
    clock.advance(MONTH - 10)
    for it in rings:
        await it.load()
    new = await replace_keys(store, NoSeal(), clock())
    for it in rings:
        await it.load()
        assert ids(it) == [new.kid]
        assert it.signing_key(clock()).kid == new.kid


def replacements(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The details of the events."""
    events = [it.__dict__ for it in caplog.records if it.name == "authsvc.security"]
    assert {it["event_type"] for it in events} <= {"KEYS_REPLACED"}
    return [it["detail"] for it in events]


async def test_each_replica_audits_a_replacement_once(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    rings = [ring(store, clock) for _ in range(2)]
    for _ in range(4):
        for it in rings:
            await it.load()
        # Keys that are made by age are no event.
        clock.advance(MONTH / 2)
    assert not replacements(caplog)
    new = await replace_keys(store, NoSeal(), clock())
    for it in rings * 2:
        await it.load()
    assert replacements(caplog) == [f"key_ids {new.kid}; all others are withdrawn"] * 2
    await ring(store, clock).load()
    assert len(replacements(caplog)) == 2


async def test_a_replacement_that_cannot_be_read_at_first_is_audited(
    store: Store, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = secret_file(tmp_path)
    keys = ring(store, clock, FileSeal(file))
    await keys.load()
    (tmp_path / "new").mkdir()
    new_file = secret_file(tmp_path / "new", OTHER)
    new = await replace_keys(store, FileSeal(new_file), clock())
    with pytest.raises(SealError):
        await keys.load()
    assert not replacements(caplog)
    file.write_bytes(new_file.read_bytes())
    await keys.load()
    assert ids(keys) == [new.kid]
    assert len(replacements(caplog)) == 1


async def test_keys_whose_file_is_lost_can_be_replaced(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    await ring(store, clock, FileSeal(secret_file(tmp_path))).load()
    seal = FileSeal(secret_file(tmp_path, OTHER))
    new = await replace_keys(store, seal, clock())
    keys = ring(store, clock, seal)
    await keys.load()
    assert ids(keys) == [new.kid]


async def test_the_first_keys_can_be_made_by_a_replacement(store: Store, clock: Clock) -> None:
    new = await replace_keys(store, NoSeal(), clock())
    keys = ring(store, clock)
    await keys.load()
    assert ids(keys) == [new.kid]


# No verifier misses a key.


LASTING = of(replace(ALICE, expire_time=START + 1e9), replace(SESSION, expire_time=START + 1e9))
STEPS = st.sampled_from(
    [1.0, 59.0, 299.0, 599.0, 3_599.0, 43_199.0, 43_201.0, 86_399.0, 86_401.0, 1_728_000.0]
)
REFRESHED = st.sampled_from([{0, 1, 2}, {0, 1}, {0}, {2}, set[int]()])


def test_a_key_is_published_for_longer_than_anybody_uses_old_ones() -> None:
    shortest = ahead_seconds(DAY_SECONDS)
    assert shortest > 10 * (MAX_AGE_SECONDS + CACHED_SECONDS)


class Replica:
    """A replica that is read and asked to sign; its clock may differ from the others'."""

    def __init__(self, store: Store, clock: Clock, skew: float, days: int) -> None:
        self._store = store
        self._clock = lambda: clock() + skew
        self._days = days
        self.restart()

    def restart(self) -> None:
        """Begin without keys."""
        self.keys = ring(self._store, self._clock, rotation=self._days * DAY_SECONDS)
        self.assertions = Assertions(self.keys, issuer=ISSUER, clock=self._clock)

    def signed(self) -> tuple[str, float] | None:
        """``kid`` and ``exp`` of an assertion; None while there is none."""
        try:
            made = self.assertions.assertion(LASTING, resource=FILES, token_digest=b"t")
        except AuthError:
            return None
        claims = jwt.decode(made, options={"verify_signature": False})
        return jwt.get_unverified_header(made)["kid"], claims["exp"]

    def published(self) -> list[str] | None:
        """``kid`` of each key; None while there is none."""
        try:
            return ids(self.keys)
        except AuthError:
            return None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([1, 2, 30]),
    st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    st.lists(
        st.tuples(
            STEPS, st.sets(st.integers(0, 2)), st.sampled_from(["", "", "", "down", "start"])
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_no_verifier_that_caches_for_max_age_misses_a_key(
    days: int, skews: list[float], steps: list[tuple[float, set[int], str]]
) -> None:
    asyncio.run(_no_key_is_missed(days, skews, steps))


async def _no_key_is_missed(
    days: int, skews: list[float], steps: list[tuple[float, set[int], str]]
) -> None:
    store, clock = Store(), Clock()
    replicas = [Replica(store, clock, skew, days) for skew in skews]
    caches: list[tuple[float, list[str]]] = []
    assertions: list[tuple[float, str, float]] = []
    for step, refreshed, event in steps:
        clock.advance(step)
        store.down = event == "down"
        if event == "start":
            replicas[0].restart()
        await asyncio.gather(*(replicas[index].keys.refresh() for index in refreshed))
        now = clock()
        assertions += [(now, *made) for it in replicas if (made := it.signed()) is not None]
        caches += [(now, kids) for it in replicas if (kids := it.published()) is not None]
        for signed, kid, expires in assertions:
            for fetched, kids in caches:
                # The verifier has this cache at some time of the assertion's life.
                if fetched <= expires and signed <= fetched + CACHED_SECONDS:
                    assert kid in kids
        assertions = [it for it in assertions if it[2] >= now]
        caches = [it for it in caches if it[0] + CACHED_SECONDS >= now]
