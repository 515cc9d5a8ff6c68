"""Each check is audited: who called what, and whether it was admitted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.domain.resolution import Resolution, shown
from authsvc.resolver.resolver import SessionResolver
from tests.authsvc.gateways.test_ext_mcp import Guardrail
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.checks import (
    MODERN,
    Gateway,
    request,
    rpc,
    serving_gateways,
    status_of,
    tool_call,
    with_gateways,
)
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

ROUTE: dict[str, object] = {
    "resource": RESOURCE,
    "scopes": ["objects.read"],
    "tools": {"delete": ["objects.write"]},
    "authorization_servers": [ISSUER],
    "audited_arguments": {"read": ["bucket", "count"]},
}


@dataclass
class Audited:
    """An authsvc whose calls are audited.

    Attributes:
        gateway: asks it.
        events: of its calls, once it has stopped.
    """

    gateway: Gateway
    events: list[dict[str, Any]] = field(default_factory=list)

    def endings(self) -> list[tuple[str, str, str, int]]:
        """Method, outcome, reason and status of each event."""
        return [(it["method"], it["outcome"], it["reason"], it["status"]) for it in self.events]


@asynccontextmanager
async def audited(
    folder: Path,
    idp: IdentityProvider,
    clock: Clock,
    route: Mapping[str, object] = ROUTE,
    calls: str = "full",
    **ext_authz: object,
) -> AsyncIterator[Audited]:
    """Run one; its events are there after the block."""
    file = folder / "audit.log"
    settings = settings_for(
        folder, idp, audit_file=file, audit={"calls": calls}, **with_gateways(route, **ext_authz)
    )
    async with serving_gateways(settings, clock) as behind:
        found = Audited(behind.gateway)
        yield found
    found.events += calls_in(file)


def calls_in(file: Path) -> list[dict[str, Any]]:
    """The events of calls in a file, which is not there where none are audited."""
    lines = file.read_text().splitlines() if file.exists() else []
    events = map(json.loads, lines)
    return [event for event in events if event["event_type"] == "CALL"]


async def test_a_call_says_who_called_what(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(client_id="app", scope="objects.read", act={"sub": "agent"})
    arguments = {"bucket": "b", "count": 3, "secret": "s"}
    call = rpc("tools/call", {"name": "read", "arguments": arguments})
    async with audited(tmp_path, idp, clock) as authsvc:
        await authsvc.gateway.post(
            call,
            token=token,
            session="session-of-upstream",
            headers=[("traceparent", TRACEPARENT)],
            peer="203.0.113.7",
        )

    (event,) = authsvc.events
    del event["timestamp"], event["duration_seconds"]
    assert event == {
        "level": "info",
        "logger": "authsvc.calls",
        "event": "a call",
        "event_type": "CALL",
        "method": "tools/call",
        "tool": "read",
        "outcome": "SUCCEEDED",
        "reason": "",
        "status": 0,
        "caller": "local",
        "session": shown("session-of-upstream"),
        "resource": RESOURCE,
        "issuer": ISSUER,
        "subject": "alice",
        "client_id": "app",
        "actors": [{"subject": "agent", "issuer": "", "client_id": ""}],
        "trace_id": TRACE,
        "client_address": "203.0.113.7",
        "arguments": {"bucket": "b", "count": "3"},
        "sample_ratio": 1.0,
    }


async def test_each_repeated_check_is_audited(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(scope="objects.read")
    async with audited(tmp_path, idp, clock) as authsvc:
        for tool in ("read", "list", "delete", "read"):
            headers = [("traceparent", TRACEPARENT)]
            await authsvc.gateway.post(
                tool_call(tool), token=token, headers=headers, peer="203.0.113.7"
            )

    assert [(event["tool"], event["outcome"]) for event in authsvc.events] == [
        ("read", "SUCCEEDED"),
        ("list", "SUCCEEDED"),
        ("delete", "DENIED"),
        ("read", "SUCCEEDED"),
    ]
    # None says less than the first.
    for name in ("subject", "caller", "session", "resource", "trace_id", "client_address"):
        assert authsvc.events[0][name]
        assert len({event[name] for event in authsvc.events}) == 1, name


async def test_refusals_are_audited_with_their_reason(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    good = idp.token(scope="objects.read")
    async with audited(tmp_path, idp, clock) as authsvc:
        ask = authsvc.gateway.post
        await ask(tool_call())
        await ask(tool_call(), token=idp.token(exp=clock() - 90))
        await ask(tool_call("delete"), token=good)
        await ask(b"{", token=good)
        await ask(tool_call(), token=good, version="1999-01-01")
        await ask(tool_call(), token=good, sends_body=False)
        await ask(tool_call(), token=good, session="session-of-alice")
        await ask(tool_call(), token=idp.token("bob"), session="session-of-alice")
        await ask(tool_call(), token=good, headers=[("upgrade", "websocket")])
        await ask(
            rpc("tools/call", {"name": "read", "_meta": META}),
            token=good,
            version=MODERN,
            headers=[("mcp-method", "tools/call"), ("mcp-name", "other")],
        )

    assert authsvc.endings() == [
        ("tools/call", "DENIED", "UNAUTHORIZED", 401),
        ("tools/call", "DENIED", "TOKEN_EXPIRED", 401),
        ("tools/call", "DENIED", "INSUFFICIENT_SCOPE", 403),
        ("POST", "DENIED", "BAD_REQUEST", 400),
        ("POST", "DENIED", "BAD_REQUEST", 400),
        ("POST", "DENIED", "INSUFFICIENT_SCOPE", 403),
        ("tools/call", "SUCCEEDED", "", 0),
        ("tools/call", "DENIED", "SESSION_SUBJECT_MISMATCH", 404),
        ("POST", "DENIED", "BAD_REQUEST", 400),
        ("tools/call", "DENIED", "BAD_REQUEST", 400),
    ]
    subjects = [event["subject"] for event in authsvc.events]
    assert subjects == ["", "", "alice", "", "", "alice", "alice", "", "", "alice"]


META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def test_the_call_that_headers_name(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(scope="objects.read")
    headers = [("mcp-method", "tools/call"), ("mcp-name", "read")]
    async with audited(tmp_path, idp, clock, {**ROUTE, "routing_headers": True}) as authsvc:
        await authsvc.gateway.post(
            tool_call(), token=token, version=MODERN, headers=headers, sends_body=False
        )

    assert authsvc.endings() == [("tools/call", "SUCCEEDED", "", 0)]
    assert authsvc.events[0]["tool"] == "read"


async def test_a_batch_has_an_event_for_each_call(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    batch = [
        tool_call(),
        rpc("ping"),
        {"jsonrpc": "2.0", "method": "notifications/x"},
        {"jsonrpc": "2.0", "id": 3, "result": {}},
    ]
    async with audited(tmp_path, idp, clock) as authsvc:
        await authsvc.gateway.post(
            batch, token=idp.token(scope="objects.read"), version="2025-03-26"
        )

    assert [event["method"] for event in authsvc.events] == [
        *("tools/call", "ping", "notifications/x")
    ]


@pytest.mark.parametrize("adopts", [True, False])
async def test_requests_about_a_session(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, adopts: bool
) -> None:
    token = idp.token(scope="objects.read")
    route = {**ROUTE, "adopt_sessions": adopts}
    async with audited(tmp_path, idp, clock, route) as authsvc:
        session = "session-of-upstream"
        if not adopts:
            opened = await authsvc.gateway.post(rpc("initialize"))
            session = opened.to_client["mcp-session-id"]
        await authsvc.gateway.post(rpc("ping"), token=token, session=session)
        await authsvc.gateway.get(token=token, session=session)
        await authsvc.gateway.delete(session=session)
        await authsvc.gateway.delete(token=token, session=session)

    first = [("ping", "SUCCEEDED", "", 0), ("GET", "SUCCEEDED", "", 0)]
    if not adopts:
        first = [("initialize", "SUCCEEDED", "", 0), first[0]]  # GET is 405 for every caller
    assert authsvc.endings() == [
        *first,
        ("DELETE", "DENIED", "UNAUTHORIZED", 401),
        ("DELETE", "SUCCEEDED", "", 0 if adopts else 204),
    ]
    assert {event["session"] for event in authsvc.events} == {shown(session)}
    assert authsvc.events[-1]["subject"] == "alice"


async def test_what_is_no_call_is_not_audited(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    metadata = "/.well-known/oauth-protected-resource"
    async with audited(tmp_path, idp, clock) as authsvc:
        for method in ("GET", "POST", "DELETE"):
            for path in (f"{metadata}/mcp", f"{metadata}/other"):
                await authsvc.gateway.check(request(method, path=path))
        for method in ("OPTIONS", "PUT"):
            await authsvc.gateway.check(request(method))
        for path in ("/elsewhere", metadata):
            await authsvc.gateway.check(request("GET", path=path, resource=""))
        await authsvc.gateway.post({"jsonrpc": "2.0", "id": 3, "result": {}})
        with pytest.raises(grpc.RpcError) as caught:
            await authsvc.gateway.check(b"\xff")
        assert status_of(caught.value) is grpc.StatusCode.INVALID_ARGUMENT

    assert authsvc.events == []


@pytest.mark.parametrize("calls", ["off", "sampled"])
async def test_calls_outside_the_sample_are_not_audited(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    calls: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with audited(tmp_path, idp, clock, calls=calls) as authsvc:
        assert (await authsvc.gateway.post(rpc("ping"))).allowed

    assert authsvc.events == []


async def test_a_clients_address_is_that_of_the_gateways_header(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    async with audited(tmp_path, idp, clock, client_address_header="x-client") as authsvc:
        for addresses in (["203.0.113.7"], ["203.0.113.7", "203.0.113.8"], []):
            headers = [("x-client", address) for address in addresses]
            await authsvc.gateway.post(rpc("ping"), headers=headers, peer="198.51.100.1")

    assert [event["client_address"] for event in authsvc.events] == ["203.0.113.7", "", ""]


async def test_a_check_that_the_gateway_gives_up(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(*args: object, **kwargs: object) -> Resolution:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    monkeypatch.setattr(SessionResolver, "resolve", forever)
    async with asyncio.timeout(TIMEOUT_SECONDS), audited(tmp_path, idp, clock) as authsvc:
        asked = asyncio.ensure_future(authsvc.gateway.post(tool_call(), token=idp.token()))
        await begun.wait()
        asked.cancel()
        await cancelled.wait()

    assert authsvc.endings() == [("tools/call", "ENDED", "CANCELLED", 0)]


async def test_the_trace_of_the_checks_own_span(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where authsvc makes spans, it is theirs, whether or not the request names one."""
    monkeypatch.setattr(
        "authsvc.telemetry.spans.NoTracing.traceparent", lambda tracing: TRACEPARENT
    )
    async with audited(tmp_path, idp, clock) as authsvc:
        await authsvc.gateway.post(rpc("ping"))

    assert [event["trace_id"] for event in authsvc.events] == [TRACE]


async def test_agentgateways_checks_are_audited_alike(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    file = tmp_path / "audit.log"
    tables = with_gateways(ROUTE, ext_mcp=True)
    settings = settings_for(tmp_path, idp, audit_file=file, audit={"calls": "full"}, **tables)
    from grpc import aio

    async with serving(settings, clock) as service, aio.insecure_channel(service.address) as to:
        guardrail = Guardrail(to)
        await guardrail.call(
            "tools/call",
            {"name": "read", "arguments": {"bucket": "b", "secret": "s"}},
            token=idp.token(scope="objects.read"),
        )
        await guardrail.tool("delete", token=idp.token(scope="objects.read"))

    assert [
        (it["tool"], it["outcome"], it["reason"], it["subject"], it["arguments"])
        for it in calls_in(file)
    ] == [
        ("read", "SUCCEEDED", "", "alice", {"bucket": "b"}),
        ("delete", "DENIED", "INSUFFICIENT_SCOPE", "alice", {}),
    ]
