"""Limits of a requirement at the gate: 429 with the time to wait, in both eras, and for batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from authsvc.access.rates import CallRates, ServiceRates
from authsvc.client import AuthClient
from authsvc.server.running import running as running_authsvc
from mcp_adapter import (
    Rate,
    RateLimit,
    RatePer,
    Requirement,
    default_requirement,
    with_broader_scopes,
)
from mcp_adapter.server.app import build_app
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    SCOPES,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_server,
    initialize,
    message_of,
    opened,
    request,
    running,
    said,
    settings,
)
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

BATCHES = "2025-03-26"

WRITES = RateLimit("writes", Rate(0.4, 2.0))
ALL = RateLimit("all-calls", Rate(1.0, 5.0))
OPENED = RateLimit("sessions", Rate(0.5, 1.0))
EVERYONE = RateLimit("meetings", Rate(1.0, 2.0), RatePer.EVERYONE)


def limited(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """``write`` and ``count`` have limits of their own, and all calls have one together."""
    match method, params:
        case "tools/call", {"name": "write"}:
            return Requirement(SCOPES[:1], rate_limits=(WRITES, ALL))
        case "tools/call", {"name": "whoami"}:
            return Requirement(rate_limits=(EVERYONE,))
        case "tools/call", _:
            return Requirement(rate_limits=(ALL,))
    return default_requirement(method, params)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(resolver: MemoryResolver, clock: Clock) -> MemoryResolver:
    resolver.clock = clock
    return resolver


@asynccontextmanager
async def served(resolver: MemoryResolver, requirement: Any = limited) -> AsyncIterator[Endpoint]:  # noqa: ANN401 - a RequirementOf
    meeting = Meeting()
    app = build_app(
        settings(),
        demo_server(meeting),
        resolver=resolver,
        ready=resolver.ready,
        requirement=with_broader_scopes(requirement, {"admin": ["things.read"]}),
        scopes=SCOPES,
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)


@pytest.fixture
async def endpoint(limits: MemoryResolver) -> AsyncIterator[Endpoint]:
    async with served(limits) as made:
        yield made


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_beyond_a_limit_is_answered_429_until_the_stated_time(
    endpoint: Endpoint, clock: Clock, era: str
) -> None:
    session = await opened(endpoint, "alice-1")

    async def write(token: str) -> httpx2.Response:
        if era == "modern":
            return await endpoint.modern(
                "tools/call", {"name": "write", "arguments": {}}, token=token
            )
        return await endpoint.post(call("write"), session=session, token=token)

    assert [(await write("alice-1")).status_code for _ in range(3)] == [200, 200, 429]
    # A second token of the subject is no second budget.
    response = await write("alice-2")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"  # 2.5 s, rounded up
    assert "www-authenticate" not in response.headers
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": 429,
            "message": "There are too many calls for the limit writes; try again later.",
            "data": {"limit": "writes", "reason": "RATE_LIMITED"},
        },
    }
    clock.advance(float(response.headers["retry-after"]))
    assert (await write("alice-1")).status_code == 200
    assert (await write("alice-1")).status_code == 429


async def test_one_hungry_subject_keeps_nobody_from_calling(endpoint: Endpoint) -> None:
    hungry = await opened(endpoint, "alice-1")
    other = await opened(endpoint, "bob")
    statuses = []
    for _ in range(5):
        for _ in range(10):
            response = await endpoint.post(call("count"), session=hungry, token="alice-1")
            statuses.append(response.status_code)
        assert (await endpoint.post(call("count"), session=other, token="bob")).status_code == 200
    assert statuses == [200] * 5 + [429] * 45


async def test_a_limit_of_everyone_is_reached_by_all_together(endpoint: Endpoint) -> None:
    alice, bob = await opened(endpoint, "alice-1"), await opened(endpoint, "bob")
    assert said(await endpoint.post(call("whoami"), session=alice, token="alice-1")) == "alice"
    assert said(await endpoint.post(call("whoami"), session=bob, token="bob")) == "bob"
    refused = await endpoint.post(call("whoami"), session=alice, token="alice-1")
    assert refused.json()["error"]["data"]["limit"] == "meetings"


async def test_calls_without_their_scope_use_up_no_limit(limits: MemoryResolver) -> None:
    def of_few(method: str, params: Mapping[str, Any]) -> Requirement | None:
        needed = default_requirement(method, params)
        return needed and Requirement(SCOPES[:1], rate_limits=(EVERYONE,))

    limits.tokens["stranger"] = replace(limits.tokens["bob"], subject="stranger", scopes=())
    async with served(limits, of_few) as endpoint:
        stranger, owner = await opened(endpoint, "stranger"), await opened(endpoint, "alice-1")
        for _ in range(5):
            denied = await endpoint.post(call("whoami"), session=stranger, token="stranger")
            assert denied.status_code == 403
        answers = [
            await endpoint.post(call("whoami"), session=owner, token="alice-1") for _ in range(3)
        ]
        assert [it.status_code for it in answers] == [200, 200, 429]


async def test_each_call_of_a_batch_counts(endpoint: Endpoint, clock: Clock) -> None:
    session = (await endpoint.post(initialize(BATCHES), token="alice-1", version=None)).headers[
        "mcp-session-id"
    ]

    async def batch(*messages: object) -> httpx2.Response:
        return await endpoint.post(
            list(messages), session=session, token="alice-1", version=BATCHES
        )

    two = call("write", 1), request("ping", request_id=3), call("write", 2)
    assert (await batch(*two)).status_code == 200
    refused = await batch(call("write", 1))
    assert refused.status_code == 429
    # No single request of a batch is the one that is beyond the limit.
    assert refused.json()["id"] is None
    assert refused.headers["retry-after"] == "3"
    clock.advance(2.5)
    assert (await batch(*two)).status_code == 429
    assert (await batch(call("write", 1))).status_code == 200


async def test_what_is_denied_before_it_is_known_counts_as_nothing(endpoint: Endpoint) -> None:
    session = await opened(endpoint, "alice-1")
    for _ in range(5):
        assert (await endpoint.post(call("write"), session=session)).status_code == 401
        expired = await endpoint.post(call("write"), session=session, token="expired")
        assert expired.status_code == 401
        thief = await endpoint.post(call("write"), session=session, token="bob")
        assert thief.status_code == 404
        assert (await endpoint.post(request("ping"), session=session)).status_code == 200
    for token in ("alice-1", "alice-1"):
        response = await endpoint.post(call("write"), session=session, token=token)
        assert response.status_code == 200


async def test_a_long_body_counts_once(endpoint: Endpoint) -> None:
    """Its token is verified before the body is read, and once more with the message."""
    session = await opened(endpoint, "alice-1")
    body = call("write", _meta={"x": "x" * 100_000})
    statuses = [
        (await endpoint.post(body, session=session, token="alice-1")).status_code for _ in range(3)
    ]
    assert statuses == [200, 200, 429]


async def test_a_response_that_streams_counts_once(
    endpoint: Endpoint, limits: MemoryResolver
) -> None:
    session = await opened(endpoint, "alice-1")
    body = call("count", _meta={"progressToken": 1})
    for _ in range(5):
        streamed = await endpoint.post(body, session=session, token="alice-1")
        assert "result" in message_of_stream(streamed)
    assert (await endpoint.post(body, session=session, token="alice-1")).status_code == 429


def message_of_stream(response: httpx2.Response) -> str:
    assert response.status_code == 200
    return response.text


async def test_an_initialize_may_have_a_limit(limits: MemoryResolver) -> None:
    def opening(method: str, params: Mapping[str, Any]) -> Requirement | None:
        return Requirement(rate_limits=(OPENED,)) if method == "initialize" else None

    async with served(limits, opening) as endpoint:
        assert await endpoint.open("alice-1")
        refused = await endpoint.post(initialize(), token="alice-1", version=None)
        assert refused.status_code == 429
        assert refused.json()["error"]["data"]["limit"] == "sessions"
        assert len(limits.sessions) == 1
        assert await endpoint.open("bob")


async def test_requests_count_towards_the_limits_of_authsvc_itself(
    limits: MemoryResolver, clock: Clock
) -> None:
    limits._rates = CallRates(ServiceRates(per_subject=Rate(1.0, 4.0)), clock)
    async with served(limits, default_requirement) as endpoint:
        session = await endpoint.open("alice-1")
        batch = [call("write", number) for number in range(3)]
        response = await endpoint.post(batch, session=session, token="alice-1", version=BATCHES)
        assert response.status_code == 200
        refused = await endpoint.post(request("ping"), session=session, token="alice-1")
        assert refused.status_code == 429
        assert "calls_per_second_per_subject" in refused.json()["error"]["message"]
        assert message_of(await endpoint.post(request("ping"), session=session))


async def test_a_gate_over_two_replicas_serves_at_most_twice_the_burst(tmp_path: Path) -> None:
    clock = Clock()
    idp = IdentityProvider(clock)
    replicas = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replicas.append(settings_for(tmp_path / name, idp, "memory"))
    async with (
        running_authsvc(replicas[0], clock=clock, monotonic=clock) as one,
        running_authsvc(replicas[1], clock=clock, monotonic=clock) as two,
        AuthClient([one, two], deadline_seconds=DEADLINE_SECONDS) as client,
        served_by(client) as endpoint,
    ):
        statuses = Counter(await calls_of(endpoint, idp.token("hungry"), 20))
        assert set(statuses) == {200, 429}
        assert 2 <= statuses[200] <= 2 * 2
        # Others are served meanwhile, and so is the hungry one after the stated time.
        assert await calls_of(endpoint, idp.token("other"), 2) == [200, 200]
        clock.advance(2.5)
        assert 1 <= (await calls_of(endpoint, idp.token("hungry"), 20)).count(200) <= 2


async def calls_of(endpoint: Endpoint, token: str, count: int) -> list[int]:
    """The statuses of calls of ``write``."""
    params = {"name": "write", "arguments": {}}
    return [
        (await endpoint.modern("tools/call", params, token=token)).status_code for _ in range(count)
    ]


def of_write(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """Each call has a limit; none needs a scope."""
    needed = default_requirement(method, params)
    return needed and Requirement(rate_limits=(WRITES,))


@asynccontextmanager
async def served_by(client: AuthClient) -> AsyncIterator[Endpoint]:
    meeting, nobody = Meeting(), MemoryResolver()
    app = build_app(
        settings(),
        demo_server(meeting),
        resolver=client,
        ready=nobody.ready,
        requirement=of_write,
        scopes=SCOPES,
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, nobody, meeting)
