"""Limits by subject and client over gRPC: on a stream and with a call for each resolve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import aio

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import Rate, RateLimit, RatePer
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.clock import Clock
from tests.support.service import Service, serving, settings_for
from tests.support.statuses import status_of
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

SEARCH = RateLimit("search", Rate(1.0, 3.0))


@pytest.fixture(params=[True, False], ids=["stream", "unary"])
async def service(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> AsyncIterator[Service]:
    settings = settings_for(tmp_path, idp, "memory")
    async with serving(settings, clock, streams=request.param) as running_service:
        yield running_service


async def limited(service: Service, session_id: str, token: str, *limits: RateLimit) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await service.client.resolve(session_id, token, resource=RESOURCE, rate_limits=limits)
    assert caught.value.reason is Reason.RATE_LIMITED
    return caught.value


@pytest.mark.parametrize("session_id", ["", "s"])
async def test_cached_and_decided_requests_count_together(
    service: Service, clock: Clock, idp: IdentityProvider, session_id: str
) -> None:
    client, token = service.client, idp.token()
    await client.resolve(session_id, token, resource=RESOURCE, create=True)
    for _ in range(3):  # the first is decided, the others are found in the cache
        await client.resolve(session_id, token, resource=RESOURCE, rate_limits=[SEARCH])
    error = await limited(service, session_id, token, SEARCH)
    assert error.limit == "search"
    assert error.principal is not None
    assert (error.principal.issuer, error.principal.subject) == (idp.issuer, "alice")
    assert error.principal.claims == {}
    assert error.message == "There are too many calls for the limit search; try again later."
    # What is not of that limit is served, and so are others.
    await client.resolve(session_id, token, resource=RESOURCE)
    await client.resolve("", idp.token("bob"), resource=RESOURCE, rate_limits=[SEARCH])
    clock.advance(error.retry_after_seconds or 0.0)
    await client.resolve(session_id, token, resource=RESOURCE, rate_limits=[SEARCH])
    await limited(service, session_id, token, SEARCH)


async def test_repeated_checks_are_served_beyond_a_limit(
    service: Service, idp: IdentityProvider
) -> None:
    client, token = service.client, idp.token()
    for _ in range(3):
        await client.resolve("", token, resource=RESOURCE, rate_limits=[SEARCH])
    await limited(service, "", token, SEARCH)
    for _ in range(5):
        await client.resolve("", token, resource=RESOURCE, rate_limits=[SEARCH], recheck=True)


async def test_created_sessions_count(service: Service, idp: IdentityProvider) -> None:
    token = idp.token()
    for _ in range(3):
        await service.client.create(token, resource=RESOURCE, rate_limits=[SEARCH])
    with pytest.raises(AuthError) as caught:
        await service.client.create(token, resource=RESOURCE, rate_limits=[SEARCH])
    assert caught.value.limit == "search"


async def test_a_client_id_counts_for_all_its_subjects(
    service: Service, idp: IdentityProvider
) -> None:
    limit = RateLimit("app", Rate(1.0, 3.0), RatePer.CLIENT)
    for name in ("ada", "bob", "eve"):
        token = idp.token(name, client_id="app")
        await service.client.resolve("", token, resource=RESOURCE, rate_limits=[limit])
    await limited(service, "", idp.token("dan", client_id="app"), limit)
    other = idp.token("dan", client_id="other")
    await service.client.resolve("", other, resource=RESOURCE, rate_limits=[limit])


async def test_calls_of_a_message_count_for_limits_of_the_service(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    limits = {"calls_per_second_per_subject": 1.0, "calls_burst_per_subject": 4.0}
    settings = settings_for(tmp_path, idp, "memory", limits=limits)
    async with serving(settings, clock) as service:
        await service.client.resolve("", idp.token(), resource=RESOURCE, calls=4)
        error = await limited(service, "", idp.token())
        assert error.limit == "calls_per_second_per_subject"
        assert error.retry_after_seconds == pytest.approx(1.0)


async def test_two_replicas_serve_twice_the_rate(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    token, served = idp.token(), 0
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        async with serving(settings_for(folder, idp, "memory"), clock) as replica:
            for _ in range(10):
                try:
                    await replica.client.resolve("", token, resource=RESOURCE, rate_limits=[SEARCH])
                    served += 1
                except AuthError as error:
                    assert error.limit == "search"  # noqa: PT017
    assert served == 2 * 3


async def test_too_many_limits_are_no_request(service: Service, idp: IdentityProvider) -> None:
    for options in ({"rate_limits": [SEARCH] * 257}, {"calls": 257}):
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("", idp.token(), resource=RESOURCE, **options)
        assert caught.value.reason is Reason.ARGUMENT_INVALID


async def test_the_status_of_a_limit(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    request = pb.ResolveSessionRequest(
        token=idp.token(),
        resource=RESOURCE,
        rate_limits=[
            pb.RateLimit(name="one", calls_per_second=0.25, burst=1, per=pb.RATE_PER_SUBJECT)
        ],
    )
    async with (
        serving(settings_for(tmp_path, idp, "memory"), clock) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        stub = pb_grpc.AuthServiceStub(channel)
        await stub.ResolveSession(request)
        status = await status_of(stub.ResolveSession(request))
    assert status.message == "There are too many calls for the limit one; try again later."
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "authsvc.v1.Principal",
    ]
