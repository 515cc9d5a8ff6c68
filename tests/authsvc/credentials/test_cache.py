"""Issued credentials: requested once, cached until they expire, renewed before."""

from __future__ import annotations

import asyncio
import gc
from hashlib import sha256

import pytest

from authsvc.credentials.cache import (
    FAILURE_SECONDS,
    MAX_CONCURRENT_CALLS,
    MAX_OWN_CALLS,
    MAX_OWNED,
    REJECTED_SECONDS,
    RENEWAL_FRACTION,
    CacheCounts,
    CredentialCache,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Secret
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock

pytestmark = pytest.mark.anyio

ENDS = START + 36_000


class Issuer:
    """Issues for an hour at a time, when it is let.

    Attributes:
        calls: how often it was asked.
        error: what it raises, when set.
        open: it answers while this is set.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.calls = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> BearerCredentials:
        self.calls += 1
        number, expire_time = self.calls, self._clock() + 3600
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return BearerCredentials(Secret(f"token-{number}"), "Bearer", expire_time)


class Cached:
    """A cache in front of an issuer."""

    def __init__(self, clock: Clock, name: str = "") -> None:
        self.clock = clock
        self.cache: CredentialCache[BearerCredentials] = CredentialCache(CacheCounts(name))
        self.issuer = Issuer(clock)

    async def get(
        self, key: str = "alice", *, owner: str = "", ends: float = ENDS, rejected: str = ""
    ) -> str:
        """The token that is issued.

        Args:
            key: what is asked for.
            owner: whose it is; without it, each key has an owner of its own.
            ends: when the token of the request expires.
            rejected: the token that the API has rejected.
        """
        digest = sha256(rejected.encode()).digest() if rejected else b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            got = await self.cache.get(
                key,
                self.issuer,
                owner=owner or key,
                ends=ends,
                now=self.clock(),
                rejected=digest,
            )
        assert self.clock() < got.expire_time <= ends
        return got.access_token.reveal()

    async def settle(self) -> None:
        """Wait for the calls in the background."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self.cache._calls:
                await asyncio.wait([it.task for it in self.cache._calls.values()])
                await asyncio.sleep(0)  # its callbacks


@pytest.fixture
async def cached(clock: Clock) -> Cached:
    return Cached(clock)


async def test_200_first_calls_are_one(cached: Cached) -> None:
    cached.issuer.open.clear()
    asking = [asyncio.create_task(cached.get()) for _ in range(200)]
    await asyncio.sleep(0)
    cached.issuer.open.set()
    assert {*await asyncio.gather(*asking)} == {"token-1"}
    assert cached.issuer.calls == 1


async def test_two_keys_share_nothing(cached: Cached) -> None:
    assert [await cached.get("alice"), await cached.get("bob")] == ["token-1", "token-2"]
    assert [await cached.get("bob"), await cached.get("alice")] == ["token-2", "token-1"]


async def test_a_cancelled_caller_does_not_cancel_the_call_for_the_others(cached: Cached) -> None:
    cached.issuer.open.clear()
    first, second = (asyncio.create_task(cached.get()) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    cached.issuer.open.set()
    assert await second == "token-1"
    assert first.cancelled()
    assert cached.issuer.calls == 1


async def test_they_are_cached_until_they_are_due_and_renewed_in_the_background(
    cached: Cached,
) -> None:
    await cached.get()
    cached.clock.advance(3600 * RENEWAL_FRACTION - 1)
    assert await cached.get() == "token-1"
    assert cached.issuer.calls == 1
    cached.clock.advance(1)
    cached.issuer.open.clear()
    # No request waits for the renewal, and concurrent requests share it.
    assert {await cached.get() for _ in range(50)} == {"token-1"}
    cached.issuer.open.set()
    await cached.settle()
    assert await cached.get() == "token-2"
    assert cached.issuer.calls == 2


async def test_what_ends_with_the_token_is_not_renewed(cached: Cached) -> None:
    """New credentials would expire no later."""
    ends = START + 3000
    await cached.get(ends=ends)
    cached.clock.advance(2999)
    assert await cached.get(ends=ends) == "token-1"
    await cached.settle()
    assert cached.issuer.calls == 1


async def test_expired_ones_are_not_issued(cached: Cached) -> None:
    await cached.get()
    cached.clock.advance(3600)
    assert await cached.get() == "token-2"


@pytest.mark.parametrize("reason", [Reason.CREDENTIALS_UNAVAILABLE, Reason.CREDENTIALS_REFUSED])
async def test_a_failure_is_cached_for_a_while(cached: Cached, reason: Reason) -> None:
    cached.issuer.error = AuthError(reason, "why")
    for _ in range(20):
        with pytest.raises(AuthError, match="why") as refused:
            await cached.get()
        assert refused.value.reason is reason
    assert cached.issuer.calls == 1
    retryable = reason is Reason.CREDENTIALS_UNAVAILABLE
    assert refused.value.retry_after_seconds == (FAILURE_SECONDS if retryable else None)
    cached.clock.advance(FAILURE_SECONDS)
    cached.issuer.error = None
    assert await cached.get() == "token-2"


async def test_no_frames_are_kept_with_a_failure(cached: Cached) -> None:
    cached.issuer.error = AuthError(Reason.CREDENTIALS_REFUSED, "why")
    with pytest.raises(AuthError, match="why"):
        await cached.get()
    failure = cached.cache._failed.peek("alice")
    # Tokens and responses are among a frame's variables.
    assert not any(isinstance(it, BaseException) for it in gc.get_referents(failure))


async def test_during_an_outage_cached_ones_are_issued_until_they_expire(
    cached: Cached,
) -> None:
    await cached.get()
    cached.issuer.error = AuthError(Reason.CREDENTIALS_UNAVAILABLE)
    cached.clock.advance(3600 * RENEWAL_FRACTION)
    for _ in range(3):
        for _ in range(20):
            assert await cached.get() == "token-1"
            await cached.settle()
        cached.clock.advance(FAILURE_SECONDS)
    # Tried again after an interval, not for each request.
    assert cached.issuer.calls == 1 + 3
    cached.clock.now = START + 3600
    with pytest.raises(AuthError) as refused:
        await cached.get()
    assert refused.value.reason is Reason.CREDENTIALS_UNAVAILABLE
    cached.issuer.error = None
    cached.clock.advance(FAILURE_SECONDS)
    assert await cached.get() == f"token-{cached.issuer.calls}"


async def test_a_rejected_renewal_evicts_the_cached_ones(cached: Cached) -> None:
    await cached.get()
    cached.issuer.error = AuthError(Reason.CREDENTIALS_REFUSED)
    cached.clock.advance(3600 * RENEWAL_FRACTION)
    assert await cached.get() == "token-1"
    await cached.settle()
    with pytest.raises(AuthError) as refused:
        await cached.get()
    assert refused.value.reason is Reason.CREDENTIALS_REFUSED


async def test_credentials_that_expired_on_arrival_are_not_issued(cached: Cached) -> None:
    cached.issuer._clock = Clock(START - 3600)
    with pytest.raises(AuthError, match="had expired") as refused:
        await cached.get()
    assert refused.value.reason is Reason.CREDENTIALS_UNAVAILABLE


async def test_a_defect_is_raised_and_not_cached(
    cached: Cached, caplog: pytest.LogCaptureFixture
) -> None:
    cached.issuer.error = ZeroDivisionError("the token was eyJ")
    with pytest.raises(ZeroDivisionError):
        await cached.get()
    assert "has failed: ZeroDivisionError" in caplog.text
    assert "eyJ" not in caplog.text
    cached.issuer.error = None
    assert await cached.get() == "token-2"


async def test_a_flood_of_principals_is_not_passed_on(cached: Cached) -> None:
    cached.issuer.open.clear()
    asking = [asyncio.create_task(cached.get(f"user-{n}")) for n in range(MAX_CONCURRENT_CALLS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(AuthError, match="too many") as refused:
        await cached.get("one more")
    assert refused.value.reason is Reason.CREDENTIALS_UNAVAILABLE
    cached.issuer.open.set()
    await asyncio.gather(*asking)
    assert cached.issuer.calls == MAX_CONCURRENT_CALLS


async def test_those_used_least_recently_are_evicted(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached.cache._cached, "_max_entries", 2)
    for key in ("a", "b", "a", "c"):
        await cached.get(key)
    assert cached.issuer.calls == 3
    await cached.get("a")
    assert cached.issuer.calls == 3
    await cached.get("b")
    assert cached.issuer.calls == 4


async def test_closing_cancels_the_calls_in_flight(cached: Cached) -> None:
    cached.issuer.open.clear()
    asking = asyncio.create_task(cached.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cached.cache.close()
    await asyncio.wait([asking], timeout=TIMEOUT_SECONDS)
    assert asking.cancelled()


async def test_no_secret_shows(cached: Cached) -> None:
    await cached.get()
    assert "token-1" not in repr(cached.cache.__dict__)


async def test_credentials_are_renewed_once_the_token_lasts_longer(cached: Cached) -> None:
    ends = START + 300
    assert await cached.get(ends=ends) == "token-1"
    cached.clock.advance(250)
    assert await cached.get(ends=ends) == "token-1"
    await cached.settle()
    assert cached.issuer.calls == 1  # new ones would expire no later
    assert await cached.get(ends=ends + 240) == "token-1"
    await cached.settle()
    assert await cached.get(ends=ends + 240) == "token-2"


async def test_credentials_do_not_outlive_a_token_that_was_shortened(cached: Cached) -> None:
    assert await cached.get(ends=START + 600) == "token-1"
    assert await cached.get(ends=START + 60) == "token-2"


async def test_a_request_that_joins_a_call_is_given_no_later_end_than_its_own(
    cached: Cached,
) -> None:
    """Each answer of introspection says anew when a token expires."""
    cached.issuer.open.clear()
    expire_times = asyncio.gather(
        *(
            cached.cache.get("alice", cached.issuer, owner="alice", ends=ends, now=START)
            for ends in (ENDS, START + 100, ENDS)
        )
    )
    await asyncio.sleep(0)
    cached.issuer.open.set()
    found = await asyncio.wait_for(expire_times, TIMEOUT_SECONDS)
    assert [it.expire_time for it in found] == [START + 3600, START + 100, START + 3600]
    assert [it.renew_time < it.expire_time for it in found] == [True, False, True]
    assert cached.issuer.calls == 1


async def test_a_principal_has_a_part_of_the_calls(cached: Cached) -> None:
    cached.issuer.open.clear()
    asking = [
        asyncio.create_task(cached.get(f"bucket-{n}", owner="mallory"))
        for n in range(MAX_OWN_CALLS)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(AuthError, match="of this principal") as refused:
        await cached.get("one more", owner="mallory")
    assert refused.value.reason is Reason.CREDENTIALS_UNAVAILABLE
    shared = asyncio.create_task(cached.get("bucket-0", owner="mallory"))
    other = asyncio.create_task(cached.get("bucket-0 of alice", owner="alice"))
    cached.issuer.open.set()
    await asyncio.gather(*asking, shared, other)
    assert cached.issuer.calls == MAX_OWN_CALLS + 1
    # Each call that ends makes room, a failed one as well.
    cached.issuer.error = AuthError(Reason.CREDENTIALS_REFUSED, "why")
    for n in range(2 * MAX_OWN_CALLS):
        with pytest.raises(AuthError, match="why"):
            await cached.get(f"refused-{n}", owner="mallory")
    await cached.settle()
    assert not cached.cache._calls_of


async def test_a_principal_at_its_limit_is_not_renewed_and_is_served(cached: Cached) -> None:
    await cached.get("a", owner="alice")
    cached.clock.advance(3600 * RENEWAL_FRACTION)
    cached.issuer.open.clear()
    asking = [
        asyncio.create_task(cached.get(f"b-{n}", owner="alice")) for n in range(MAX_OWN_CALLS)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await cached.get("a", owner="alice") == "token-1"
    assert len(cached.cache._calls) == MAX_OWN_CALLS
    cached.issuer.open.set()
    await asyncio.gather(*asking)
    assert await cached.get("a", owner="alice") == "token-1"
    await cached.settle()
    assert cached.issuer.calls == 1 + MAX_OWN_CALLS + 1


async def test_a_principal_evicts_its_own(cached: Cached) -> None:
    await cached.get("of alice", owner="alice")
    for n in range(MAX_OWNED + 1):
        await cached.get(f"bucket-{n}", owner="mallory")
    calls = cached.issuer.calls
    await cached.get("of alice", owner="alice")
    await cached.get("bucket-1", owner="mallory")
    assert cached.issuer.calls == calls
    await cached.get("bucket-0", owner="mallory")
    assert cached.issuer.calls == calls + 1


async def test_failures_are_bounded_by_principal(cached: Cached) -> None:
    cached.issuer.error = AuthError(Reason.CREDENTIALS_REFUSED, "why")
    for n in range(MAX_OWNED + 1):
        with pytest.raises(AuthError, match="why"):
            await cached.get(f"bucket-{n}", owner="mallory")
    assert len(cached.cache._failed) == MAX_OWNED


async def test_a_rejected_token_is_replaced_by_one_call(cached: Cached) -> None:
    assert await cached.get() == "token-1"
    cached.clock.advance(REJECTED_SECONDS)
    asked = [cached.get(rejected="token-1") for _ in range(20)]
    assert {*await asyncio.gather(*asked)} == {"token-2"}
    assert cached.issuer.calls == 2
    # One that has been told late gets the present one, which is another.
    cached.clock.advance(REJECTED_SECONDS)
    assert await cached.get(rejected="token-1") == "token-2"
    assert await cached.get() == "token-2"
    assert cached.issuer.calls == 2


async def test_a_young_token_is_not_replaced(cached: Cached) -> None:
    """An API that rejects every token does not cause a call for each request."""
    token = await cached.get()
    cached.clock.advance(REJECTED_SECONDS - 0.1)
    assert await cached.get(rejected=token) == "token-1"
    cached.clock.advance(0.1)
    for _ in range(20):
        token = await cached.get(rejected=token)
    assert (token, cached.issuer.calls) == ("token-2", 2)


async def test_a_failed_replacement_leaves_the_rejected_one_to_others(cached: Cached) -> None:
    await cached.get()
    cached.clock.advance(REJECTED_SECONDS)
    cached.issuer.error = AuthError(Reason.CREDENTIALS_UNAVAILABLE, "why")
    for _ in range(3):
        with pytest.raises(AuthError, match="why"):
            await cached.get(rejected="token-1")
    assert cached.issuer.calls == 2
    assert await cached.get() == "token-1"


async def test_credentials_of_aws_are_not_replaced(clock: Clock) -> None:
    cache: CredentialCache[AwsCredentials] = CredentialCache()
    keys = AwsCredentials("AKIA", Secret("s"), Secret("t"), "eu-west-1", START + 3600)
    calls = 0

    async def issue() -> AwsCredentials:
        nonlocal calls
        calls += 1
        return keys

    for seconds in (0, 60):
        await cache.get(
            "alice",
            issue,
            owner="alice",
            ends=ENDS,
            now=START + seconds,
            rejected=sha256(b"t").digest(),
        )
    assert calls == 1


async def test_a_failure_that_no_request_gets_is_logged_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a renewal, or after the deadlines of all. The resolver logs the others."""
    for name, said in (("", "without a name"), ("api", "api")):
        cached = Cached(clock, name)
        cached.issuer.error = AuthError(Reason.CREDENTIALS_REFUSED, "why")
        with pytest.raises(AuthError, match="why"):
            await cached.get()
        assert not caplog.records
        cached.issuer.open.clear()
        for key in ("bob", "carol"):
            gone = asyncio.create_task(cached.get(key))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        cached.issuer.open.set()
        await cached.settle()
        (line,) = caplog.records
        assert line.levelname == "WARNING"
        expected = f"credentials {said} are not issued, and no request waits: CREDENTIALS_REFUSED: "
        assert line.message == f"{expected}why"
        caplog.clear()
