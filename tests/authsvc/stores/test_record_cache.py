"""The record cache, while replies and the log arrive in any order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore
from authsvc.stores.record_cache import Fetch, RecordCache, version_of


def record(revision: int = 1, *, create_time: float = 100.0, session_id: str = "s") -> Record:
    return Record(session_id, revision, create_time, 100.0, 1e9, "idp", "alice")


@pytest.fixture
def cache() -> RecordCache:
    return RecordCache(3)


def test_a_fetched_record_is_cached(cache: RecordCache) -> None:
    assert cache.get("s") is None
    with cache.fetch("s") as fetch:
        fetch.put(record())
    assert cache.get("s") == record()


def test_a_reply_older_than_the_log_is_not_cached(cache: RecordCache) -> None:
    with cache.fetch("s") as fetch:
        # The store answers with revision 1; before the answer arrives, the log reports 2.
        cache.written("s", version_of(record(2)))
        fetch.put(record(1))
    assert cache.get("s") is None


def test_a_reply_that_the_log_has_reported_is_cached(cache: RecordCache) -> None:
    with cache.fetch("s") as fetch:
        cache.written("s", version_of(record(2)))
        fetch.put(record(2))
    assert cache.get("s") == record(2)


def test_the_last_write_that_the_log_reported_counts(cache: RecordCache) -> None:
    with cache.fetch("s") as fetch:
        cache.written("s", version_of(record(2)))
        cache.written("s", version_of(record(3)))
        fetch.put(record(2))
    assert cache.get("s") is None


def test_a_reply_after_a_removal_is_not_cached(cache: RecordCache) -> None:
    with cache.fetch("s") as fetch:
        cache.removed("s")
        fetch.put(record())
    assert cache.get("s") is None
    with cache.fetch("s") as fetch:
        # Made anew, and then again gone from what is known: nothing is certain any more.
        cache.removed("s")
        cache.written("s", version_of(record(create_time=200.0)))
        fetch.put(record())
    assert cache.get("s") is None


def test_a_reply_after_a_gap_in_the_log_is_not_cached(cache: RecordCache) -> None:
    with cache.fetch("s") as fetch:
        cache.clear()
        fetch.put(record())
    assert cache.get("s") is None


def test_each_fetch_is_invalidated_separately(cache: RecordCache) -> None:
    with cache.fetch("s") as early:
        cache.written("s", version_of(record(2)))
        with cache.fetch("s") as late, cache.fetch("other") as other:
            late.put(record(2))
            early.put(record(1))
            other.put(record(session_id="other"))
        assert cache.get("s") == record(2)
    assert cache.get("other") is not None


def test_a_failed_fetch_caches_nothing(cache: RecordCache) -> None:
    with pytest.raises(RuntimeError), cache.fetch("s"):
        raise RuntimeError
    cache.written("s", version_of(record(2)))
    assert cache.get("s") is None


def test_an_own_write_stays_cached_when_the_log_reports_it(cache: RecordCache) -> None:
    cache.put(record(2))
    cache.written("s", version_of(record(2)))
    assert cache.get("s") == record(2)
    cache.written("s", version_of(record(2, create_time=200.0)))
    assert cache.get("s") is None


def test_a_removed_record_is_evicted(cache: RecordCache) -> None:
    cache.put(record())
    cache.removed("other")
    assert cache.get("s") == record()
    cache.removed("s")
    assert cache.get("s") is None


def test_the_least_recently_used_record_is_evicted_first(cache: RecordCache) -> None:
    for name in "abc":
        cache.put(record(session_id=name))
    cache.get("a")
    cache.put(record(session_id="d"))
    assert len(cache) == 3
    assert cache.get("b") is None
    assert cache.get("a") is not None


def test_a_touch_updates_the_cached_times(cache: RecordCache) -> None:
    cache.put(record())
    seen = replace(record(), last_seen_time=200.0, expire_time=300.0, subject="mallory")
    cache.touch(seen)
    assert cache.get("s") == replace(record(), last_seen_time=200.0, expire_time=300.0)
    cache.touch(replace(record(2), expire_time=0.0))
    cache.touch(record(session_id="unknown"))
    assert cache.get("s") == replace(record(), last_seen_time=200.0, expire_time=300.0)
    assert cache.get("unknown") is None


def test_clearing_drops_the_not_befores_too(cache: RecordCache) -> None:
    cache.put(record())
    cache.not_befores.add(NotBefore(1.0, 1.0))
    cache.clear()
    assert len(cache) == len(cache.not_befores) == 0


@dataclass
class _Request:
    """A read or write of the store; the reply was current when the store sent it."""

    context: AbstractContextManager[Fetch]
    fetch: Fetch
    reply: Record | None


class RepliesAndTheLog(RuleBasedStateMachine):
    """A store, its log, and a cache to which replies and the log arrive late, in any order.

    The log is in order, and each reply was current when the store sent it. Once the log has been
    applied up to a write, no record older than that write is cached.
    """

    requests: Bundle[_Request] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.cache = RecordCache(10)
        self.stored: Record | None = None
        self.log: list[Record | None] = []
        self.applied = 0
        self.creations = 0

    @rule()
    def write(self) -> None:
        """Another process writes."""
        self._write()

    def _write(self) -> None:
        if self.stored is None:
            self.creations += 1
            self.stored = record(create_time=100.0 + self.creations)
        else:
            self.stored = replace(self.stored, revision=self.stored.revision + 1)
        self.log.append(self.stored)

    @rule()
    def remove(self) -> None:
        """Another process removes the record."""
        if self.stored is not None:
            self.stored = None
            self.log.append(None)

    @rule(target=requests)
    def ask(self) -> _Request:
        """A read is sent and answered; the reply has not arrived."""
        return self._request(lambda: None)

    @rule(target=requests)
    def ask_to_write(self) -> _Request:
        """This process writes; the reply has not arrived."""
        return self._request(self._write)

    def _request(self, work: Callable[[], None]) -> _Request:
        context = self.cache.fetch("s")
        fetch = context.__enter__()
        work()
        return _Request(context, fetch, self.stored)

    @rule(request=consumes(requests))
    def answer(self, request: _Request) -> None:
        """The reply arrives."""
        if request.reply is not None:
            request.fetch.put(request.reply)
        request.context.__exit__(None, None, None)

    @rule(count=st.integers(1, 3))
    def follow(self, count: int) -> None:
        """The next events of the log arrive."""
        for written in self.log[self.applied : self.applied + count]:
            if written is None:
                self.cache.removed("s")
            else:
                self.cache.written("s", version_of(written))
        self.applied = min(self.applied + count, len(self.log))

    @rule()
    def lose_the_log(self) -> None:
        """The log has a gap, and is followed again from its end."""
        self.cache.clear()
        self.applied = len(self.log)

    @invariant()
    def nothing_older_than_the_log_is_cached(self) -> None:
        """The cached record is the last applied write, or a later one."""
        cached = self.cache.get("s")
        current = self.log[max(0, self.applied - 1) :] if self.applied else [None, *self.log]
        assert cached is None or cached in current


TestRepliesAndTheLog = RepliesAndTheLog.TestCase
