"""Refusals of the gate that a setting could mend name it in its log, and in no answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusal_log import WARNING_INTERVAL_SECONDS, RefusalLog
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.strict_json import FEW_VALUES
from mcp_adapter import SessionGate
from mcp_adapter.gate.body_reading import read_body
from tests.mcp_adapter.harness import (
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    owner,
    principal,
    request,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio


def _sized(size: int) -> bytes:
    return json.dumps(request("tools/call", {"name": "x", "text": "x" * size})).encode()


@asynccontextmanager
async def _endpoint(resolver: MemoryResolver, **changes: object) -> AsyncIterator[Endpoint]:
    meeting = Meeting()
    async with (
        running(demo_app(resolver, meeting, **changes)) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)


@pytest.fixture
def resolver() -> MemoryResolver:
    """Knows two subjects; bob's tokens have no scope."""
    alice = principal("alice", "things.read")
    return MemoryResolver(
        {"alice-1": alice, "bob-1": replace(alice, subject="bob", scopes=())},
        sessions={"a": owner("alice"), "b": owner("bob")},
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Level, text and setting of what the gate and the adapter log of refusals."""
    return [
        (record.levelname, record.getMessage(), str(record.__dict__.get("setting")))
        for record in caplog.records
        if record.name.startswith(("mcp_adapter", "authsvc.http_auth"))
        and "re" in record.getMessage().partition(":")[0]
    ]


@pytest.mark.parametrize(
    ("session", "presented", "detail", "setting"),
    [
        ("a", "alice-1", "the token has 'things.read'", "requirement"),
        ("b", "bob-1", "the token has none", "issuers[https://idp.example].claims.scopes"),
    ],
)
async def test_a_missing_scope_is_logged_with_what_was_needed(
    resolver: MemoryResolver,
    caplog: pytest.LogCaptureFixture,
    session: str,
    presented: str,
    detail: str,
    setting: str,
) -> None:
    caplog.set_level("INFO")
    async with _endpoint(resolver) as endpoint:
        answer = await endpoint.post(call("write"), session=session, token=presented)
    assert answer.status_code == 403
    assert lines(caplog) == [
        (
            "INFO",
            (
                "request rejected: INSUFFICIENT_SCOPE: 'things.read things.write' is needed, "
                f"{detail} (setting: {setting})"
            ),
            setting,
        )
    ]
    (fields,) = (it.__dict__ for it in caplog.records if "setting" in it.__dict__)
    assert (fields["reason"], fields["session"]) == ("INSUFFICIENT_SCOPE", f"{session}…")
    assert fields["subject"] in presented
    assert presented not in caplog.text
    assert setting not in answer.text + str(answer.headers)


GATE_CASES: dict[str, tuple[str, bytes, str | None, int]] = {
    "max_body_bytes": ("a", _sized(900), "alice-1", 413),
    "max_anonymous_body_bytes": ("a", _sized(600), None, 401),
}


@pytest.mark.parametrize("setting", GATE_CASES)
async def test_a_body_that_is_too_long_names_its_limit_once_a_second(
    resolver: MemoryResolver, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    session, body, presented, status = GATE_CASES[setting]
    async with _endpoint(resolver, max_body_bytes=800, max_anonymous_body_bytes=500) as endpoint:
        for _ in range(3):
            answer = await endpoint.post(body, session=session, token=presented)
            assert answer.status_code == status
    ((level, text, named),) = lines(caplog)
    assert (level, named) == ("WARNING", setting)
    assert text.startswith(f"refused: {status}: ")
    assert text.endswith(f" (setting: {setting})")
    assert setting not in answer.text + str(answer.headers)


async def test_what_only_the_client_can_mend_is_not_logged(
    resolver: MemoryResolver, caplog: pytest.LogCaptureFixture
) -> None:
    full = json.dumps(request("x", {"values": [0] * FEW_VALUES})).encode()
    async with _endpoint(resolver) as endpoint:
        answers = [
            await endpoint.post(full, session="a"),
            await endpoint.post(b"{", session="a"),
            await endpoint.post(call("whoami"), session="a", version="1999-01-01"),
            await endpoint.post(call("whoami"), session="a", headers={"Content-Type": "text/x"}),
            await endpoint.post(call("whoami"), session="a"),
            await endpoint.http.get("/mcp"),
        ]
    assert [answer.status_code for answer in answers] == [401, 400, 400, 415, 401, 405]
    assert lines(caplog) == []


async def test_a_body_that_does_not_arrive_names_its_limit() -> None:
    async def silent() -> Message:
        await anyio.sleep_forever()
        raise AssertionError("it does not end")

    with pytest.raises(Refusal) as caught:
        await read_body(
            silent,
            Headers([(b"content-type", b"application/json")]),
            max_bytes=1,
            timeout_seconds=0.0,
        )
    assert (caught.value.status, caught.value.setting) == (408, "body_timeout_seconds")


async def test_calls_at_a_path_that_is_not_served_name_the_resource(
    resolver: MemoryResolver, caplog: pytest.LogCaptureFixture
) -> None:
    async with _endpoint(resolver) as endpoint:
        for _ in range(3):
            answer = await endpoint.post(call("whoami"), token="alice-1", path="/other")
            assert (answer.status_code, answer.text) == (404, "Not Found")
        assert (await endpoint.http.get("/other")).status_code == 404
    assert lines(caplog) == [
        (
            "WARNING",
            (
                "refused: 404: POST '/other': MCP is served at '/mcp', the path of resource "
                "(setting: resource)"
            ),
            "resource",
        )
    ]


@pytest.mark.parametrize(
    ("path", "options", "logged"),
    [
        ("/healthz", {}, ("WARNING", "open_paths")),
        ("/mcp", {}, None),
        ("/", {}, None),
        ("/mcp", {"stateful": True}, ("INFO", "streams")),
        ("/healthz", {"stateful": True, "streams": True}, ("WARNING", "open_paths")),
        ("/mcp", {"stateful": True, "streams": True}, None),
        ("/.well-known/oauth-authorization-server", {}, None),
        (
            "/.well-known/oauth-protected-resource/mcp",
            {},
            ("WARNING", "authorization_servers"),
        ),
    ],
)
async def test_a_get_that_is_refused_names_the_argument_of_the_gate(
    resolver: MemoryResolver,
    caplog: pytest.LogCaptureFixture,
    path: str,
    options: dict[str, Any],
    logged: tuple[str, str] | None,
) -> None:
    caplog.set_level("INFO")
    gate = SessionGate(Starlette(), resolver=resolver, resource=RESOURCE, **options)
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http,
    ):
        for _ in range(2):
            assert (await http.get(path)).status_code in {400, 404, 405}
    assert [(level, setting) for level, _, setting in lines(caplog)] == [logged] * bool(logged)


def test_a_refusal_is_logged_once_in_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = RefusalLog(clock)
    for _ in range(2):
        log.closed_path("/x" * 1_000)
        log.no_metadata("/y")
    assert len(caplog.records) == 2
    assert max(len(record.getMessage()) for record in caplog.records) < 300
    clock.advance(WARNING_INTERVAL_SECONDS)
    log.closed_path("/x")
    assert len(caplog.records) == 3
