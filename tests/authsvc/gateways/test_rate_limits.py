"""Limits at a gateway's checks: what is decided, what is repeated, and what other gateways ask."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from authsvc.gateways.ext_mcp import SERVICE_NAME
from authsvc.gateways.repeated_checks import RepeatedChecks
from authsvc.internal.v1.ext_mcp_pb2 import ExtMcpError, ExtMcpRequest, ExtMcpRequestResult
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.checks import (
    MODERN,
    Answer,
    Behind,
    Gateway,
    request,
    rpc,
    serving_gateways,
    tool_call,
    with_gateways,
)
from tests.support.clock import Clock
from tests.support.scraping import scrape
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

LIMITS = [
    {"name": "search", "tools": ["search", "find"], "calls_per_second": 0.4, "burst": 3},
    {"name": "all", "calls_per_second": 1, "burst": 6, "per": "everyone"},
]


@pytest.fixture
async def behind(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Behind]:
    async with started(tmp_path, clock, idp) as made:
        yield made


@asynccontextmanager
async def started(
    folder: Path,
    clock: Clock,
    idp: IdentityProvider,
    limits: Mapping[str, float] | None = None,
    **route: object,
) -> AsyncIterator[Behind]:
    tables = with_gateways({"resource": RESOURCE, "rate_limits": LIMITS, **route}, ext_mcp=True)
    settings = settings_for(folder, idp, "memory", **tables, limits=limits or {})
    async with serving_gateways(settings, clock) as made:
        yield made


async def statuses(gateway: Gateway, count: int, body: object, **arguments: Any) -> list[int]:  # noqa: ANN401
    return [(await gateway.post(body, **arguments)).status for _ in range(count)]


def limit_of(answer: Answer) -> str:
    assert answer.refusal == (429, "RATE_LIMITED")
    return str(json.loads(answer.body)["error"]["data"]["limit"])


@pytest.mark.parametrize("arguments", [{"session": "s"}, {}, {"version": MODERN}])
@pytest.mark.parametrize("repeats", [True, False])
async def test_checks_beyond_a_limit_are_denied_until_the_stated_time(
    behind: Behind,
    clock: Clock,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Mapping[str, Any],
    repeats: bool,
) -> None:
    if not repeats:
        monkeypatch.setattr(RepeatedChecks, "response", lambda *_: None)
    gateway, token = behind.gateway, idp.token()
    arguments = {**arguments, "token": token}
    assert await statuses(gateway, 5, tool_call("search"), **arguments) == [0, 0, 0, 429, 429]
    answer = await gateway.post(tool_call("search"), **arguments)
    assert limit_of(answer) == "search"
    assert {name.lower(): value for name, value in answer.headers.items()}["retry-after"] == "3"
    assert json.loads(answer.body)["id"] == 1
    assert answer.metadata["resource"] == RESOURCE
    assert answer.metadata["subject"] == "alice"
    assert "outcome" not in answer.metadata
    # Other tools are served, up to what everyone has together, and others of that tool.
    assert await statuses(gateway, 1, tool_call("read"), **arguments) == [0]
    other = {**arguments, "token": idp.token("bob"), "session": ""}
    assert await statuses(gateway, 3, tool_call("search"), **other) == [0, 0, 429]
    assert limit_of(await gateway.post(tool_call("read"), **arguments)) == "all"
    clock.advance(3.0)
    assert await statuses(gateway, 2, tool_call("search"), **arguments) == [0, 429]


async def test_a_repeated_check_beyond_a_limit_is_counted_as_one_rejection(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """It is decided on twice: among those that repeat, and in full."""
    caplog.set_level(logging.INFO)
    tables = with_gateways({"resource": RESOURCE, "rate_limits": LIMITS})
    listen = {"listen": "127.0.0.1:0"}
    settings = settings_for(tmp_path, idp, "memory", **tables, metrics=listen)
    async with serving_gateways(settings, clock) as made:
        (line,) = [it for it in caplog.records if it.getMessage().startswith("metrics at")]
        answers = await statuses(made.gateway, 7, tool_call("search"), token=idp.token())
        assert answers == [0, 0, 0, 429, 429, 429, 429]
        scraped = await scrape(str(line.__dict__["address"]))
    assert scraped.value("authsvc_rate_limited_total", limit="search") == 4


@pytest.mark.parametrize("name", ["search", "SEARCH", " search ", "\uff53earch", "find"])
async def test_a_server_that_ignores_case_lets_nobody_pass_a_limit(
    behind: Behind, idp: IdentityProvider, name: str
) -> None:
    token = idp.token()
    assert await statuses(behind.gateway, 3, tool_call("search"), token=token) == [0, 0, 0]
    assert limit_of(await behind.gateway.post(tool_call(name), token=token)) == "search"


async def test_a_call_that_may_be_any_counts_towards_all_limits(
    behind: Behind, idp: IdentityProvider
) -> None:
    token = idp.token()
    unread = request("POST", tool_call("read"), token=token, sends_body=False)
    by_position = rpc("tools/call", ["search"])  # type: ignore[arg-type] # as some servers take it
    assert (await behind.gateway.check(unread)).allowed
    assert await statuses(behind.gateway, 2, by_position, token=token) == [0, 0]
    assert limit_of(await behind.gateway.check(unread)) == "search"
    assert (await behind.gateway.post(tool_call("read"), token=token)).allowed


async def test_routing_headers_name_the_call_that_counts(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    headers = [("mcp-method", "tools/call"), ("mcp-name", "search")]
    async with started(tmp_path, clock, idp, routing_headers=True) as behind:
        unread = request(
            "POST",
            tool_call("search"),
            token=idp.token(),
            sends_body=False,
            version=MODERN,
            headers=headers,
        )
        answers = [await behind.gateway.check(unread) for _ in range(4)]
    assert [answer.status for answer in answers] == [0, 0, 0, 429]
    assert limit_of(answers[-1]) == "search"


async def test_each_call_of_a_batch_counts(
    behind: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    batch = [tool_call("search"), rpc("ping"), tool_call("find")]
    arguments: dict[str, Any] = {"token": idp.token(), "version": "2025-03-26", "session": "s"}
    assert await statuses(behind.gateway, 2, batch, **arguments) == [0, 429]
    clock.advance(2.5)
    assert await statuses(behind.gateway, 2, batch, **arguments) == [0, 429]


async def test_open_methods_and_requests_without_a_token_count_towards_no_limit(
    behind: Behind, idp: IdentityProvider
) -> None:
    token = idp.token()
    for _ in range(10):
        assert (await behind.gateway.post(rpc("tools/list"), token=token)).allowed
        assert (await behind.gateway.post(rpc("tools/list"))).allowed
        assert (await behind.gateway.post(tool_call("search"))).status == 401
        assert (await behind.gateway.post(tool_call("search"), token=idp.forged())).status == 401
    assert (await behind.gateway.post(tool_call("search"), token=token)).allowed


@pytest.mark.parametrize("arguments", [{"session": "s"}, {}, {"version": MODERN}])
async def test_calls_without_their_scope_use_up_no_limit_of_the_route(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, arguments: Mapping[str, Any]
) -> None:
    own = {"calls_per_second_per_subject": 1.0, "calls_burst_per_subject": 7.0}
    route = {"tools": {"search": ["s.read"]}}
    async with started(tmp_path, clock, idp, own, **route) as behind:
        gateway, stranger = behind.gateway, idp.token("mallory", scope="")
        unread = request("POST", tool_call("search"), token=stranger, sends_body=False)
        assert (await gateway.check(unread)).status == 403
        assert await statuses(gateway, 1, tool_call("search")) == [401]
        # They count towards authsvc's own limits, so that they end, too.
        denied = await statuses(gateway, 7, tool_call("search"), token=stranger)
        assert denied == [403] * 6 + [429]
        arguments = {**arguments, "token": idp.token("alice", scope="s.read")}
        assert await statuses(gateway, 4, tool_call("search"), **arguments) == [0, 0, 0, 429]
        # All three were of the limit for everyone, and no other call was.
        others = [idp.token(name, scope="s.read") for name in ("bob", "carol")]
        assert await statuses(gateway, 2, tool_call("search"), token=others[0]) == [0, 0]
        assert await statuses(gateway, 2, tool_call("search"), token=others[1]) == [0, 429]


@pytest.mark.parametrize("adopts", [True, False])
async def test_limits_of_the_service_count_whatever_is_asked(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, adopts: bool
) -> None:
    own = {"calls_per_second_per_client_id": 1.0, "calls_burst_per_client_id": 6.0}
    async with started(tmp_path, clock, idp, own, rate_limits=[], adopt_sessions=adopts) as behind:
        gateway, token = behind.gateway, idp.token()
        opened = await gateway.post(rpc("initialize"), token=token)
        session = opened.to_client.get("mcp-session-id", "s")
        assert opened.allowed
        kept: dict[str, Any] = {"token": token, "session": session}
        assert await statuses(gateway, 4, rpc("ping"), **kept) == [0] * 4
        batch = [rpc("ping")] * 2
        answer = await gateway.post(batch, **kept, version="2025-03-26")
        assert limit_of(answer) == "calls_per_second_per_client_id"
        if adopts:
            assert (await gateway.get(**kept)).allowed
        else:
            assert (await gateway.post(rpc("ping"), **kept)).allowed
        assert (await gateway.get(**kept)).status == (429 if adopts else 405)
        assert limit_of(await gateway.delete(**kept)) == "calls_per_second_per_client_id"
        assert limit_of(await gateway.post(rpc("initialize"), token=idp.token("bob")))
        other = idp.token(client_id="another")
        assert (await gateway.post(rpc("initialize"), token=other)).allowed


async def test_a_guardrail_of_agentgateway_is_answered_likewise(
    behind: Behind, idp: IdentityProvider
) -> None:
    asked = ExtMcpRequest(method="tools/call", mcp_request=b'{"name":"search"}')
    for name, value in ((":path", "/mcp"), (":authority", "mcp.example")):
        asked.headers.add(key=name, value=value.encode())
    asked.headers.add(key="authorization", value=f"Bearer {idp.token()}".encode())
    async with aio.insecure_channel(behind.service.address) as channel:
        check: Any = channel.unary_unary(f"/{SERVICE_NAME}/CheckRequest")
        results = [
            ExtMcpRequestResult.FromString(
                await check(asked.SerializeToString(), timeout=TIMEOUT_SECONDS)
            )
            for _ in range(4)
        ]
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["passed", "passed", "passed", "error"]
    assert results[-1].error.code == ExtMcpError.CODE_RESOURCE_EXHAUSTED
    assert "search" in results[-1].error.reason


async def test_a_gateway_has_no_other_limits_than_its_servers(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    """Limits are the route's: a repeated check takes of them, and its caller's go on counting."""
    own = {"calls_per_second": 1.0, "calls_burst": 2.0}
    async with started(tmp_path, clock, idp, own) as behind:
        token = idp.token()
        found = await statuses(behind.gateway, 3, tool_call("search"), token=token)
        assert found == [0, 0, 429]
        answer = await behind.gateway.post(tool_call("search"), token=token)
        assert answer.refusal == (429, "OVERLOADED")
