"""Limits by subject and client at the resolver: what counts, once, and what does not."""

from __future__ import annotations

import asyncio
import logging

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.rates import CallRates, ServiceRates
from authsvc.access.usage import EVENTS_BURST, Usages
from authsvc.audit import security
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import RECHECK, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Credentials, Outcome, Principal, Resolution, Secret
from authsvc.resolver.resolver import SessionResolver
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

TWO = Rate(1.0, 2.0)
SEARCH = CallCounts((RateLimit("search", TWO),))


class Broker:
    """Issues nothing; waits or fails where a test says so."""

    def __init__(self) -> None:
        self.error: AuthError | None = None
        self.waiting: asyncio.Event | None = None

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        if self.waiting is not None:
            self.waiting.set()
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return None


class Bench:
    """A resolver whose subjects may make two calls at once, and one a second."""

    def __init__(self, service: ServiceRates | None = None) -> None:
        self.clock = Clock()
        self.idp = IdentityProvider(self.clock)
        self.broker = Broker()
        self.store = MemoryStore(unauthenticated_cap=100)
        key = VerificationKey(None, "HS256", self.idp.secret.encode())
        self.resolver = SessionResolver(
            JwtVerifier([Issuer(ISSUER, KeySet((key,)))]),
            self.store,
            self.broker,
            limits=Limits(),
            usages=Usages(CallerLimits(), self.clock),
            clock=self.clock,
            rates=CallRates(service or ServiceRates(per_subject=TWO), self.clock),
        )

    async def resolve(
        self, token: str, session_id: str = "", *, create: bool = True, counts: CallCounts = SEARCH
    ) -> Resolution:
        return await self.resolver.resolve(
            session_id, token, resource=RESOURCE, create=create, counts=counts
        )

    async def rejected(self, token: str, session_id: str = "") -> AuthError:
        with pytest.raises(AuthError) as caught:
            await self.resolve(token, session_id)
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("session_id", ["", "s"])
async def test_a_call_beyond_a_limit_is_rejected_until_the_stated_time(
    bench: Bench, session_id: str
) -> None:
    token = bench.idp.token()
    for _ in range(2):
        await bench.resolve(token, session_id)
    error = await bench.rejected(token, session_id)
    assert error.reason is Reason.RATE_LIMITED
    assert error.retry_after_seconds == 1.0
    bench.clock.advance(error.retry_after_seconds)
    await bench.resolve(token, session_id)
    assert (await bench.rejected(token, session_id)).reason is Reason.RATE_LIMITED


async def test_others_are_served_while_one_subject_is_beyond_its_limit(bench: Bench) -> None:
    hungry = bench.idp.token()
    served = 0
    for number in range(20):
        other = bench.idp.token(f"other{number}")
        for _ in range(5):
            try:
                await bench.resolve(hungry)
                served += 1
            except AuthError as error:
                assert error.reason is Reason.RATE_LIMITED  # noqa: PT017
        await bench.resolve(other)
    assert served == 2


async def test_all_sessions_and_tokens_of_a_subject_count_together(bench: Bench) -> None:
    await bench.resolve(bench.idp.token(), "one")
    await bench.resolve(bench.idp.token(roles=["other"]), "two")
    assert (await bench.rejected(bench.idp.token(), "three")).reason is Reason.RATE_LIMITED


async def test_a_request_beyond_a_limit_changes_nothing(bench: Bench) -> None:
    old = bench.idp.token()
    await bench.resolve(old, "s")
    await bench.resolve(old, "s")
    before = await bench.store.get("s")
    bench.clock.advance(0.5)
    await bench.rejected(bench.idp.token(), "s")
    await bench.rejected(bench.idp.token(), "new")
    assert await bench.store.get("s") == before
    assert await bench.store.get("new") is None


async def test_created_sessions_count(bench: Bench) -> None:
    token = bench.idp.token()
    for _ in range(2):
        await bench.resolver.create(token, resource=RESOURCE)
    with pytest.raises(AuthError) as caught:
        await bench.resolver.create(token, resource=RESOURCE)
    assert caught.value.reason is Reason.RATE_LIMITED


async def test_limits_of_the_request_count_at_each_way_in() -> None:
    bench = Bench(ServiceRates())
    token = bench.idp.token()
    await bench.resolve(token)
    await bench.resolver.create(token, resource=RESOURCE, counts=SEARCH)
    error = await bench.rejected(token)
    assert (error.limit, error.setting) == ("search", "")
    assert error.message == "There are too many calls for the limit search; try again later."
    with pytest.raises(AuthError):
        await bench.resolver.create(token, resource=RESOURCE, counts=SEARCH)


async def test_requests_without_an_identity_count_as_nothing(bench: Bench) -> None:
    limit = CallCounts((RateLimit("all", TWO, RatePer.EVERYONE),))
    expired = bench.idp.token(ttl_seconds=-3600)
    await bench.resolve("", "s", counts=limit)
    for _ in range(5):
        await bench.resolve("", "s", counts=limit)
        await bench.resolve("", counts=limit)
        assert (await bench.rejected(expired, "s")).reason is Reason.TOKEN_EXPIRED
    for _ in range(2):
        await bench.resolve(bench.idp.token(), counts=limit)


async def test_a_denied_subject_counts_as_nothing(bench: Bench) -> None:
    await bench.resolve(bench.idp.token("owner"), "s")
    thief = bench.idp.token("thief")
    for _ in range(5):
        assert (await bench.rejected(thief, "s")).reason is Reason.SESSION_SUBJECT_MISMATCH
    for _ in range(2):
        await bench.resolve(thief)


async def test_repeated_checks_count_as_nothing(bench: Bench) -> None:
    token = bench.idp.token()
    for _ in range(5):
        await bench.resolve(token, "s", counts=RECHECK)
    for _ in range(2):
        await bench.resolve(token, "s")
    assert (await bench.rejected(token, "s")).reason is Reason.RATE_LIMITED
    await bench.resolve(token, "s", counts=RECHECK)


async def test_cached_responses_count(bench: Bench) -> None:
    token = bench.idp.token()
    for _ in range(2):
        await bench.resolver.resolve(
            "s", token, resource=RESOURCE, create=True, request_digest=b"request", counts=SEARCH
        )
    response = bench.resolver.cached_response(b"request")
    assert response is not None
    limits = bench.resolver.call_limits
    with pytest.raises(AuthError) as caught:
        limits.count(response, "gate")
    assert caught.value.reason is Reason.RATE_LIMITED
    assert not limits.try_to_count_as(response, SEARCH)
    with pytest.raises(AuthError):
        limits.count_as(response, "gate", SEARCH, "")
    assert limits.try_to_count_as(response, RECHECK)
    bench.clock.advance(1.0)
    limits.count(response, "gate")
    with pytest.raises(AuthError):
        limits.count(response, "gate")
    bench.clock.advance(1.0)
    limits.count_as(response, "gate", SEARCH, "")
    assert not limits.try_to_count_as(response, SEARCH)
    bench.clock.advance(1.0)
    assert limits.try_to_count_as(response, SEARCH)
    assert not limits.try_to_count_as(response, SEARCH)


async def test_the_same_request_that_is_decided_takes_what_its_cached_response_takes(
    bench: Bench,
) -> None:
    token = bench.idp.token()
    for counts in (RECHECK, SEARCH):
        await bench.resolver.resolve(
            "", token, resource=RESOURCE, request_digest=b"request", counts=counts
        )
    response = bench.resolver.cached_response(b"request")
    assert response is not None
    assert [use.limit.name for use in response.uses] == ["calls_per_second_per_subject", "search"]


async def test_a_request_that_is_repeated_after_an_outage_counts_once(bench: Bench) -> None:
    token = bench.idp.token()
    bench.broker.error = AuthError(Reason.CREDENTIALS_UNAVAILABLE)
    for _ in range(5):
        assert (await bench.rejected(token)).reason is Reason.CREDENTIALS_UNAVAILABLE
    bench.broker.error = None
    for _ in range(2):
        await bench.resolve(token)
    assert (await bench.rejected(token)).reason is Reason.RATE_LIMITED


async def test_a_request_that_is_denied_for_good_counts(bench: Bench) -> None:
    token = bench.idp.token()
    bench.broker.error = AuthError(Reason.CREDENTIALS_REFUSED)
    reasons = [(await bench.rejected(token)).reason for _ in range(3)]
    assert reasons == [*[Reason.CREDENTIALS_REFUSED] * 2, Reason.RATE_LIMITED]
    error = bench.broker.error
    assert error.principal is not None
    assert error.principal.subject == "alice"


async def test_a_request_that_is_cancelled_counts_as_nothing(bench: Bench) -> None:
    token = bench.idp.token()
    bench.broker.waiting = asyncio.Event()
    for _ in range(5):
        asked = asyncio.create_task(bench.resolve(token))
        await asyncio.wait_for(bench.broker.waiting.wait(), TIMEOUT_SECONDS)
        asked.cancel()
        await asyncio.wait([asked], timeout=TIMEOUT_SECONDS)
        bench.broker.waiting.clear()
    bench.broker.waiting = None
    for _ in range(2):
        await bench.resolve(token)


async def test_a_write_that_was_lost_to_another_counts_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, lost = bench.store.put, [None] * 5

    async def losing(*args: object) -> object:
        return lost.pop() if lost else await put(*args)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(bench.store, "put", losing)
    resolution = await bench.resolve(bench.idp.token(), "s")
    assert resolution.outcome is Outcome.CREATED
    await bench.resolve(bench.idp.token(), "s")
    assert (await bench.rejected(bench.idp.token(), "s")).reason is Reason.RATE_LIMITED


async def test_a_limit_that_is_reached_is_audited_once_a_second(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, security.LOGGER_NAME)
    token = bench.idp.token(client_id="app")
    for _ in range(2):
        await bench.resolve(token)
    for expected in (1, 2):
        for _ in range(5):
            await bench.rejected(token)
        events = [it.__dict__ for it in caplog.records if it.name == security.LOGGER_NAME]
        assert len(events) == expected
        bench.clock.advance(1.0)
        await bench.resolve(token)
    event = events[-1]
    assert event["event_type"] == "LIMIT_REACHED"
    assert event["reason"] == "RATE_LIMITED"
    assert event["setting"] == "limits.calls_per_second_per_subject"
    assert event["detail"] == "limit calls_per_second_per_subject"
    assert (event["issuer"], event["client_id"]) == (ISSUER, "app")
    assert event["subject"]
    assert token not in str(events)


async def test_events_of_many_limits_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, security.LOGGER_NAME)
    bench = Bench(ServiceRates())
    token = bench.idp.token()
    for number in range(300):
        counts = CallCounts((RateLimit(f"limit{number}", Rate(1.0, 1.0)),))
        await bench.resolve(token, counts=counts)
        with pytest.raises(AuthError):
            await bench.resolve(token, counts=counts)
    events = [it for it in caplog.records if it.__dict__.get("reason") == "RATE_LIMITED"]
    assert len(events) == EVENTS_BURST
