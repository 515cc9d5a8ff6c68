"""A cache with a part for each owner: nobody takes the room of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authsvc.common.lru import ENTRY_BYTES
from authsvc.credentials.owned import OwnedCache

LASTING = 1_000_000.0


def cache_of(*, entries: int = 4, owned: int = 2, costs: int = 100) -> OwnedCache[str]:
    """A cache of ``entries``, in which that many values of ``costs`` bytes fit."""
    return OwnedCache(entries, entries * (costs + ENTRY_BYTES), owned)


def put(
    cache: OwnedCache[str],
    key: str,
    owner: str,
    *,
    cost: int = 100,
    until: float = LASTING,
    now: float = 0.0,
) -> None:
    cache.put(key, f"value of {key}", cost, owner=owner, until=until, now=now)


def present(cache: OwnedCache[str], *keys: str) -> str:
    return "".join(key for key in keys if cache.peek(key) is not None)


def test_an_owner_at_its_limit_evicts_its_least_recently_used() -> None:
    cache = cache_of()
    for key in "ab":
        put(cache, key, "alice")
    assert cache.get("a") == "value of a"
    put(cache, "c", "alice")
    assert present(cache, *"abc") == "ac"


def test_a_full_cache_evicts_the_owners_own() -> None:
    cache = cache_of(owned=3)
    for key, owner in (("a", "alice"), ("b", "bob"), ("c", "bob"), ("d", "carol")):
        put(cache, key, owner)
    put(cache, "e", "bob")
    assert present(cache, *"abcde") == "acde"


def test_an_owner_without_entries_evicts_the_least_recently_used() -> None:
    cache = cache_of()
    for key in "abcd":
        put(cache, key, f"owner of {key}")
    put(cache, "e", "owner of e")
    assert present(cache, *"abcde") == "bcde"


def test_what_has_ended_is_evicted_first() -> None:
    cache = cache_of()
    put(cache, "a", "alice", until=10)
    for key, owner in (("b", "bob"), ("c", "carol"), ("d", "dave")):
        put(cache, key, owner)
    put(cache, "e", "bob", now=10)
    assert present(cache, *"abcde") == "bcde"


def test_the_bound_of_bytes_is_the_owners_too() -> None:
    cache = cache_of(entries=4, owned=4)
    put(cache, "a", "alice")
    put(cache, "b", "bob")
    put(cache, "c", "bob", cost=2 * 100 + ENTRY_BYTES)
    assert present(cache, *"abc") == "abc"
    put(cache, "d", "bob", cost=2 * 100 + ENTRY_BYTES)
    assert present(cache, *"abcd") == "ad"


def test_what_does_not_fit_by_itself_is_not_cached() -> None:
    cache = cache_of()
    put(cache, "a", "alice")
    put(cache, "b", "alice", cost=10_000)
    assert present(cache, "a", "b") == "a"


def test_what_is_discarded_leaves_nothing() -> None:
    cache = cache_of()
    put(cache, "a", "alice")
    cache.discard("a")
    cache.discard("a")
    assert (len(cache), cache.get("a"), cache._keys) == (0, None, {})


OWNERS = st.sampled_from("xyz")
STEPS = st.lists(st.tuples(st.sampled_from(["put", "get"]), OWNERS, st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_an_owner_that_has_an_entry_never_evicts_anothers(
    steps: list[tuple[str, str, int]],
) -> None:
    cache = cache_of(entries=5, owned=3)
    for step, owner, number in steps:
        key = f"{owner}{number}"
        if step == "get":
            assert cache.get(key) in (None, f"value of {key}")
            continue
        before = {str(it) for keys in cache._keys.values() for it in keys}
        had_one = bool(cache._keys.get(owner))
        put(cache, key, owner)
        after = {str(it) for keys in cache._keys.values() for it in keys}
        assert key in after
        lost = {it for it in before - after if it[0] != owner}
        assert not lost or not had_one
        assert len(lost) <= 1
        assert after == {str(key) for key, _ in cache._entries.items()}
        assert all(0 < len(keys) <= 3 for keys in cache._keys.values())
        assert len(cache) <= 5
