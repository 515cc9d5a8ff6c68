"""Caches are bounded by bytes, and what they count is what they take."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from secrets import token_bytes

import jwt
import pytest

from authsvc.common.lru import ENTRY_BYTES, MIN_CACHE_BYTES, LruCache, bytes_for
from authsvc.common.newest import Newest
from authsvc.console.feed import Feed
from authsvc.domain.events import EVENT_BYTES, EventType, SessionEvent
from authsvc.domain.record import Grant, Record
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Principal,
    Resolution,
    Secret,
)
from authsvc.domain.revocation import NotBefore
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.resolver.response_cache import RESPONSE_BYTES, CachedResponse, CachedResponses
from authsvc.stores.memory import MemoryStore
from authsvc.stores.record_cache import RECORD_BYTES, RecordCache
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.jwt import TOKEN_BYTES, Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from mcp_adapter import Requirement, with_broader_scopes
from tests.support.clock import START
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """How many bytes have been allocated since it was made and are still in use."""
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    yield taken
    tracemalloc.stop()


def test_the_least_recently_used_is_evicted_first() -> None:
    cache: LruCache[str, int] = LruCache(3, 10_000)
    assert cache.oldest() is None
    for number, key in enumerate("abc"):
        cache.put(key, number, 100)
    assert cache.get("a") == 0
    assert cache.peek("b") == 1  # does not count as a use
    assert cache.oldest() == ("b", 1)
    cache.put("d", 3, 100)
    assert [key for key, _ in cache.items()] == ["c", "a", "d"]
    assert cache.get("b") is None
    cache.put("e", 4, 9_300)  # needs the room of several
    assert [key for key, _ in cache.items()] == ["e"]
    cache.put("e", 5, 10)
    assert (cache.get("e"), cache.used_bytes) == (5, 10 + ENTRY_BYTES)
    cache.put("huge", 6, 10_000)
    assert (cache.get("huge"), cache.get("e")) == (None, 5)
    cache.put("e", 7, 10_000)  # too large now, and the old value is removed
    assert (cache.get("e"), cache.used_bytes, len(cache)) == (None, 0, 0)
    cache.put("f", 8, 1)
    cache.discard("f")
    cache.discard("f")
    assert cache.used_bytes == 0
    cache.put("g", 9, 1)
    cache.clear()
    assert (cache.used_bytes, len(cache)) == (0, 0)


def test_the_oldest_is_dropped_for_the_newest() -> None:
    newest: Newest[str] = Newest(3, 1_000)
    for item in "abcd":
        newest.append(item, 100)
    assert (list(reversed(newest)), newest[0], newest.dropped) == (["d", "c", "b"], "b", 1)
    newest.append("large", 850)
    assert (list(reversed(newest)), newest.dropped) == (["large", "d"], 3)
    newest.append("huge", 10_000)  # is kept whatever it takes
    assert list(reversed(newest)) == ["huge"]
    newest.append("small", 100)
    assert list(reversed(newest)) == ["small"]


def test_a_small_cache_holds_one_large_value() -> None:
    assert bytes_for(1, 10) == MIN_CACHE_BYTES
    assert bytes_for(1_000, 10_000) == 10_000_000


# What entries are said to take, beside what they take.


def claims(number: int, **more: object) -> dict[str, object]:
    return {
        "iss": ISSUER,
        "sub": f"subject-{number}",
        "aud": RESOURCE,
        "iat": START,
        "exp": START + 600,
        "jti": f"token-{number}",
        "roles": ["reader"],
        **more,
    }


def real(number: int) -> dict[str, object]:
    """What tokens of the field have."""
    return claims(
        number,
        buckets=[f"quilt-production-{number}-{n}" for n in range(32)],
        permissions=[f"s3:GetObjectOf{number}x{n}" for n in range(24)],
    )


def large(number: int) -> dict[str, object]:
    """As much as is taken."""
    return claims(number, buckets=[f"b-{number:04}-{n}" for n in range(1_000)])


def token_of(payload: dict[str, object]) -> VerifiedToken:
    encoded = json.dumps(payload).encode()
    principal = ClaimMapping().principal(json.loads(encoded), encoded)
    return VerifiedToken(token_bytes(32), principal, START, str(payload["jti"]))


def record(number: int, grants: int = 1, text: str = "") -> Record:
    return Record(
        f"session-{number}-{'x' * 20}", 1, START, START, START + 600, f"{ISSUER}/{number}",
        f"subject-{number}",
        {
            f"{RESOURCE}/{number}/{n}": Grant(
                token_bytes(32), START + n, START + 600, f"jti-{number}{text}", f"client-{n}{text}"
            )
            for n in range(grants)
        },
    )  # fmt: skip


def expired(number: int, text: str = "") -> SessionEvent:
    return SessionEvent(EventType.EXPIRED, START + number, record(number, text=text))


def not_before_event(number: int) -> SessionEvent:
    not_before = NotBefore(START, START + number, f"{ISSUER}/{number}", token_id=f"{number}" * 200)
    return SessionEvent(EventType.TOKENS_REVOKED, START + number, not_before=not_before)


def aws(number: int) -> AwsCredentials:
    secret, token = Secret(f"{number}" * 40), Secret(f"{number:04}" * 400)
    return AwsCredentials(f"AKIA{number}", secret, token, f"region-{number}", START + number)


@pytest.mark.parametrize(
    "made",
    [
        lambda number: token_of(real(number)),
        lambda number: token_of(large(number)),
        lambda number: token_of(claims(number)),
        lambda number: token_of(claims(number, note="é" * 5_000)),
        lambda number: token_of(claims(number, roles=[f"rôle-☃-{number}-{n}" for n in range(200)])),
        record,
        lambda number: record(number, 5),
        expired,
        not_before_event,
        aws,
        lambda number: BearerCredentials(Secret(f"{number:04}" * 400), "Bearer", START + number),
    ],
    ids=[
        *("real", "large", "small", "long claim", "not latin"),
        *("record", "grants", "event", "not-before", "aws", "bearer"),
    ],
)
def test_counted_bytes_are_the_bytes_in_use(
    made: Callable[[int], VerifiedToken | Record | SessionEvent | AwsCredentials],
    traced: Callable[[], int],
) -> None:
    kept = [made(number) for number in range(200)]
    taken = traced() / len(kept)
    counted = sum(each.memory_bytes() for each in kept) / len(kept)
    # Each entry of a cache is counted ENTRY_BYTES more.
    assert taken * 0.9 < counted + ENTRY_BYTES
    assert counted < taken * 2 + 600


# The caches themselves.


async def test_large_tokens_do_not_fill_the_memory(traced: Callable[[], int]) -> None:
    secret = token_bytes(32)
    size = 1_000
    verifier = JwtVerifier(
        [Issuer(ISSUER, KeySet((VerificationKey(None, "HS256", secret),)))], cache_size=size
    )
    for number in range(600):
        token = jwt.encode(large(number), secret, "HS256")
        await verifier.verify(BearerToken(token), resource=RESOURCE, now=START)
    bound = size * TOKEN_BYTES
    assert 0.9 * bound < verifier._cache.used_bytes <= bound
    assert 10 < len(verifier._cache) < 200
    assert traced() < 1.2 * bound


def test_large_responses_do_not_fill_the_memory(traced: Callable[[], int]) -> None:
    responses = CachedResponses(100)
    for number in range(300):
        token = token_of(large(number))
        resolution = Resolution(None, None, token.principal, aws(number))
        response = CachedResponse(record(number), token, RESOURCE, "", START, resolution)
        response.encoded = token.principal.claims_json + token_bytes(40_000)
        responses.put(token.digest, response)
    assert 0 < len(responses) < 50
    assert traced() < 1.2 * 100 * RESPONSE_BYTES


def test_large_records_do_not_fill_the_memory(traced: Callable[[], int]) -> None:
    cache = RecordCache(1_000)
    for number in range(2_000):
        cache.put(record(number, 50))
    assert 0 < len(cache) < 500
    assert traced() < 1.2 * 1_000 * RECORD_BYTES


LONG = "é☃" * 500
"""Of the length that a token's texts may have."""


async def test_large_events_do_not_fill_the_memory(traced: Callable[[], int]) -> None:
    store = MemoryStore(unauthenticated_cap=1, events_kept=1_000)
    feed = Feed(None, events_kept=1_000, clock=lambda: START)  # type: ignore[arg-type] # nothing is watched
    for number in range(1_100):
        await store.append(expired(number, LONG))
        feed._add(expired(number, LONG))
    assert 200 < len(list(feed.latest())) < 1_000
    assert feed.has_dropped
    assert traced() < 2 * 1.2 * 1_000 * EVENT_BYTES


def test_scopes_that_a_client_chose_are_not_kept(traced: Callable[[], int]) -> None:
    requirement = with_broader_scopes(
        lambda _, params: Requirement((str(params["name"]),)), {"all": ["some"]}
    )
    for number in range(300):
        requirement("tools/call", {"name": f"{number}{'x' * 64_000}"})
    assert traced() < 1_000_000


def test_a_principal_counts_all_that_it_has() -> None:
    empty = Principal("i", "s", START).memory_bytes()
    for name in ("scopes", "roles", "buckets", "permissions"):
        more = Principal("i", "s", START, **{name: ("x" * 1_000,) * 3}).memory_bytes()  # type: ignore[arg-type] # any of them
        assert more > empty + 3_000
    actor = Actor("x" * 1_000, "x" * 1_000, "x" * 1_000, Actor("x" * 1_000))
    assert Principal("i", "s", START, actor=actor).memory_bytes() > empty + 4_000
