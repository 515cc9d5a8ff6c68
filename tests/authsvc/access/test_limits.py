"""A flood of one caller affects no other caller, and no known token."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from pydantic import ValidationError

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import EVENTS_BURST, EVENTS_PER_SECOND, Usage, Usages
from authsvc.common.token_bucket import TokenBucket
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Outcome, Resolution
from authsvc.resolver.resolver import SessionResolver
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import Service, serving, settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Service]:
    limits = {
        "rejected_tokens_per_second": 2,
        "rejected_tokens_burst": 5,
        "anonymous_sessions_per_second": 2,
        "anonymous_sessions_burst": 5,
    }
    async with serving(settings_for(tmp_path, idp, limits=limits), clock) as running_service:
        yield running_service


async def reason(service: Service, session_id: str, token: str, *, create: bool = True) -> Reason:
    with pytest.raises(AuthError) as caught:
        await service.client.resolve(session_id, token, resource=RESOURCE, create=create)
    assert (caught.value.retry_after_seconds or 0) <= 1.0
    return caught.value.reason


@contextmanager
def call(usage: Usage) -> Iterator[None]:
    usage.begin_call()
    try:
        yield
    finally:
        usage.end_call()


def test_a_bucket_gives_a_burst_and_then_a_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(100.25) == 0.25
    assert bucket.take(100.5) == 0.0
    assert bucket.take(100.5) == 0.5
    # It never holds more than a burst, and a clock that steps back neither fills nor blocks it.
    assert [bucket.take(1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(900.0) == 0.5
    assert bucket.take(900.5) == 0.0


def test_callers_have_buckets_of_their_own(clock: Clock) -> None:
    usages = Usages(CallerLimits(anonymous_sessions_burst=1), clock)
    usages.of("one").before_anonymous_session()
    with pytest.raises(AuthError):
        usages.of("one").before_anonymous_session()
    usages.of("other").before_anonymous_session()


def test_calls_in_flight_are_counted(clock: Clock) -> None:
    usage = Usages(CallerLimits(max_concurrent_calls_per_caller=2), clock).of("caller")
    with call(usage):
        with call(usage), pytest.raises(AuthError) as caught, call(usage):
            pass
        assert caught.value.reason is Reason.OVERLOADED
        with call(usage):
            pass


def test_calls_are_rate_limited(clock: Clock) -> None:
    usage = Usages(CallerLimits(calls_per_second=8, calls_burst=2), clock).of("caller")
    for _ in range(2):
        with call(usage):
            pass
    with pytest.raises(AuthError) as caught, call(usage):
        pass
    assert caught.value.retry_after_seconds == 0.125
    clock.advance(0.125)
    with call(usage):
        pass


async def test_known_tokens_are_served_during_a_flood_of_invalid_ones(
    service: Service, idp: IdentityProvider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    good = idp.token()
    await service.client.resolve("s", good, resource=RESOURCE, create=True)
    seen = []
    for _ in range(50):
        seen.append(await reason(service, "s", idp.forged()))
        answer = await service.client.resolve("s", good, resource=RESOURCE)
        assert answer.outcome is Outcome.REUSED
        assert answer.principal is not None
    assert seen == [Reason.TOKEN_SIGNATURE_INVALID] * 5 + [Reason.OVERLOADED] * 45
    # An unknown token is rejected with the invalid ones, until the time to retry.
    clock.advance(0.5)
    fresh = idp.token(roles=["analyst"])
    answer = await service.client.resolve("s", fresh, resource=RESOURCE)
    assert answer.outcome is Outcome.REAUTHENTICATED
    limits = [r for r in caplog.records if r.__dict__.get("event_type") == "LIMIT_REACHED"]
    assert len(limits) == 1


@pytest.mark.parametrize("streams", [False, True])
async def test_few_tokens_of_a_flood_are_checked_by_default(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, streams: bool
) -> None:
    async with serving(settings_for(tmp_path, idp), clock, streams=streams) as service:
        good = idp.token()
        await service.client.resolve("s", good, resource=RESOURCE, create=True)
        seen = Counter([await reason(service, "s", idp.forged()) for _ in range(600)])
        assert seen == {Reason.TOKEN_SIGNATURE_INVALID: 200, Reason.OVERLOADED: 400}
        answer = await service.client.resolve("s", good, resource=RESOURCE)
        assert answer.principal is not None


async def test_only_unknown_tokens_are_rejected_without_a_check(
    service: Service, idp: IdentityProvider
) -> None:
    client, good, other = service.client, idp.token(roles=["reader"]), idp.token(roles=["analyst"])
    await client.resolve("s", good, resource=RESOURCE, create=True)
    await client.resolve("other", other, resource=RESOURCE, create=True)
    await client.resolve("ended", good, resource=RESOURCE, create=True)
    await client.revoke("ended")
    while await reason(service, "s", idp.forged()) is not Reason.OVERLOADED:
        pass
    # A session that has ended has ended, whatever the token.
    assert await reason(service, "never-seen", idp.forged(), create=False) is (
        Reason.SESSION_NOT_FOUND
    )
    assert await reason(service, "ended", idp.forged()) is Reason.SESSION_REVOKED
    # Known tokens and requests without a token are served.
    for session_id, token in (("s", good), ("s", other), ("other", other), ("s", ""), ("", good)):
        await client.resolve(session_id, token, resource=RESOURCE)
    await client.create(good, resource=RESOURCE)
    # All others are rejected, by each RPC.
    assert await reason(service, "", idp.forged()) is Reason.OVERLOADED
    with pytest.raises(AuthError) as caught:
        await client.create(idp.forged(), resource=RESOURCE)
    assert caught.value.reason is Reason.OVERLOADED


async def test_a_token_that_is_rejected_without_a_check_costs_no_decision(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []
    resolve: Any = SessionResolver.resolve

    async def counted(*args: object, **more: object) -> Resolution:
        decided.append("resolve")
        resolution = await resolve(*args, **more)
        assert isinstance(resolution, Resolution)
        return resolution

    monkeypatch.setattr(SessionResolver, "resolve", counted)
    limits = {"rejected_tokens_burst": 1}
    settings = settings_for(tmp_path, idp, limits=limits)
    for streams in (False, True):
        async with serving(settings, clock, streams=streams) as service:
            await service.client.resolve("s", idp.token(), resource=RESOURCE, create=True)
            await reason(service, "s", idp.forged())
            decided.clear()
            for _ in range(20):
                assert await reason(service, "s", idp.forged()) is Reason.OVERLOADED
            assert decided == []


async def test_valid_tokens_do_not_count_as_rejected(
    service: Service, idp: IdentityProvider
) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for number in range(50):
            token = idp.token(f"user-{number}")
            await service.client.resolve(f"s{number}", token, resource=RESOURCE, create=True)


async def test_expired_tokens_do_not_block_new_ones(
    service: Service, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(ttl_seconds=1)
    await service.client.resolve("s", token, resource=RESOURCE, create=True)
    clock.advance(60)
    for _ in range(20):
        assert await reason(service, "s", token) is Reason.TOKEN_EXPIRED
    answer = await service.client.resolve("s", idp.token(), resource=RESOURCE)
    assert answer.outcome is Outcome.REAUTHENTICATED


async def test_a_session_s_own_token_is_served_by_a_process_that_has_not_seen_it(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = settings_for(tmp_path, idp, "sqlite", limits={"rejected_tokens_burst": 1})
    good = idp.token()
    async with serving(settings, clock) as before:
        await before.client.resolve("s", good, resource=RESOURCE, create=True)
    async with serving(settings, clock) as after:
        await reason(after, "s", idp.forged())
        assert await reason(after, "s", idp.forged()) is Reason.OVERLOADED
        answer = await after.client.resolve("s", good, resource=RESOURCE)
        assert answer.outcome is Outcome.REUSED


def test_checks_in_flight_count_as_rejected(clock: Clock) -> None:
    usage = Usages(CallerLimits(rejected_tokens_burst=2), clock).of("caller")
    with usage.check(), usage.check(), pytest.raises(AuthError) as caught, usage.check():
        pass
    assert caught.value.reason is Reason.OVERLOADED
    # Valid tokens, and those that could not be checked, do not count.
    for reason in (None, Reason.KEYS_UNAVAILABLE, None):
        with suppress(AuthError), usage.check(), usage.check():
            if reason:
                raise AuthError(reason)
    for _ in range(2):
        with pytest.raises(AuthError) as caught, usage.check():
            raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)
        assert caught.value.reason is Reason.TOKEN_SIGNATURE_INVALID
    with pytest.raises(AuthError) as caught, usage.check():
        pass
    assert caught.value.reason is Reason.OVERLOADED


def test_a_limit_that_is_reached_takes_nothing_of_the_other(clock: Clock) -> None:
    limits = CallerLimits(rejected_tokens_burst=3, rejected_tokens_burst_per_client=2)
    usage = Usages(limits, clock).of("gateway")

    def reached(address: str) -> str:
        """The limit that rejects a token; empty where it is checked, and rejected."""
        with pytest.raises(AuthError) as caught, usage.check(address):
            raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)
        return caught.value.setting

    of_client, of_caller = (f"limits.rejected_tokens_per_second{of}" for of in ("_per_client", ""))
    assert [reached("192.0.2.1") for _ in range(5)] == ["", "", *[of_client] * 3]
    assert [reached("192.0.2.2") for _ in range(5)] == ["", *[of_caller] * 4]


def test_a_flood_of_denials_is_audited_in_part(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    usage = Usages(CallerLimits(), clock).of("caller")
    written = sum(usage.may_audit() for _ in range(3000))
    assert written == EVENTS_BURST
    limits = [r for r in caplog.records if r.__dict__.get("event_type") == "LIMIT_REACHED"]
    assert len(limits) == 1
    clock.advance(1)
    assert sum(usage.may_audit() for _ in range(3000)) == EVENTS_PER_SECOND


@pytest.mark.parametrize(
    "burst",
    [
        "calls_burst",
        "rejected_tokens_burst",
        "rejected_tokens_burst_per_client",
        "anonymous_sessions_burst",
    ],
)
def test_a_burst_below_one_is_invalid(tmp_path: Path, idp: IdentityProvider, burst: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        settings_for(tmp_path, idp, limits={burst: 0.5})


async def test_concurrent_calls_of_all_callers_are_bounded(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    limits = {"max_concurrent_calls": 2}
    async with serving(settings_for(tmp_path, idp, limits=limits), clock) as service:
        watches = []
        async with aio.insecure_channel(service.address) as channel:
            health: Any = HealthStub(channel)  # its stubs are without methods
            for _ in range(2):
                watches.append(health.Watch(HealthCheckRequest(), timeout=TIMEOUT_SECONDS))
                assert await watches[-1].read() is not aio.EOF
            with pytest.raises(AuthError) as caught:
                await service.client.resolve("", "", resource=RESOURCE)
            assert caught.value.reason is Reason.OVERLOADED
            for watch in watches:
                watch.cancel()


async def test_other_requests_are_served_during_a_flood_of_anonymous_sessions(
    service: Service, idp: IdentityProvider, clock: Clock
) -> None:
    for number in range(5):
        await service.client.resolve(f"a{number}", "", resource=RESOURCE, create=True)
    assert await reason(service, "a5", "") is Reason.SESSION_LIMIT
    with pytest.raises(AuthError) as caught:
        await service.client.create("", resource=RESOURCE)
    assert caught.value.reason is Reason.SESSION_LIMIT
    await service.client.resolve("a0", "", resource=RESOURCE)
    await service.client.create(idp.token(), resource=RESOURCE)
    clock.advance(0.5)
    await service.client.create("", resource=RESOURCE)
