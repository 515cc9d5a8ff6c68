"""How messages of each revision are answered, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp_types import JSONRPCRequest

from tests.mcp_adapter.harness import (
    LEGACY,
    Endpoint,
    call,
    initialize,
    request,
    said,
)

pytestmark = pytest.mark.anyio

PROGRESS: dict[str, Any] = {"_meta": {"progressToken": "p"}}
OLD = "2025-03-26"


def events(text: str) -> list[dict[str, Any]]:
    """The JSON in each event of an SSE stream."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: ")
    ]


@pytest.mark.parametrize("version", ["2024-11-05", OLD, "2025-06-18", LEGACY])
async def test_each_handshake_revision_is_negotiated_and_served(
    endpoint: Endpoint, version: str
) -> None:
    opened = await endpoint.post(initialize(version), version=None)
    session = opened.headers["mcp-session-id"]

    response = await endpoint.post(
        call("whoami"), session=session, token="alice-1", version=version
    )

    assert opened.json()["result"]["protocolVersion"] == version
    assert said(response) == "alice"


async def test_an_unknown_revision_is_offered_the_latest_with_a_handshake(
    endpoint: Endpoint,
) -> None:
    opened = await endpoint.post(initialize("1999-01-01"), version=None)

    assert opened.json()["result"]["protocolVersion"] == LEGACY


async def test_the_later_revision_is_served_without_a_session(endpoint: Endpoint) -> None:
    discovered = await endpoint.modern("server/discover")
    called = await endpoint.modern("tools/call", {"name": "whoami", "arguments": {}}, token="bob")

    assert "2026-07-28" in discovered.json()["result"]["supportedVersions"]
    assert said(called) == "bob"
    assert not endpoint.resolver.sessions


async def test_progress_turns_the_answer_into_a_stream(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.post(call("count", **PROGRESS), session=session, token="alice-1")

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-accel-buffering"] == "no"
    *progress, last = events(response.text)
    assert [event["method"] for event in progress] == ["notifications/progress"] * 3
    assert progress[1]["params"] == {
        "progressToken": "p",
        "progress": 1,
        "total": 3,
        "message": "step 1",
    }
    assert last["id"] == 7
    assert last["result"]["content"][0]["text"] == "alice"


async def test_progress_that_was_not_asked_for_is_not_sent(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.post(call("count"), session=session, token="alice-1")

    assert said(response) == "alice"


async def test_a_silent_stream_is_kept_alive(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_adapter.transport.event_stream.KEEP_ALIVE_SECONDS", 0.001)
    endpoint.meeting.expected = 2
    session = await endpoint.open()
    headers = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": session,
        "Authorization": "Bearer alice-1",
    }

    async with endpoint.http.stream("POST", "/mcp", json=call("meet"), headers=headers) as stream:
        lines = stream.aiter_lines()
        first = await anext(lines)
        await endpoint.meeting.join()
        rest = [line async for line in lines]

    assert first == ": ping"
    (last,) = events("\n".join(rest))
    assert last["id"] == 7


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}},
    ],
)
async def test_what_expects_no_answer_is_accepted(
    endpoint: Endpoint, message: dict[str, Any]
) -> None:
    response = await endpoint.post(message, session=await endpoint.open())

    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]},
        {"jsonrpc": "2.0", "id": 1},
    ],
)
async def test_what_is_no_message_is_a_bad_request(
    endpoint: Endpoint, message: dict[str, Any]
) -> None:
    response = await endpoint.post(message, session=await endpoint.open())

    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600
    assert response.json()["id"] is None


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_what_breaks_in_a_tool_stays_in_the_log(
    endpoint: Endpoint, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    if era == "legacy":
        session = await endpoint.open()
        response = await endpoint.post(call("break"), session=session, token="alice-1")
    else:
        name = {"name": "break", "arguments": {}}
        response = await endpoint.modern("tools/call", name, token="alice-1")

    assert response.json()["error"] == {"code": -32603, "message": "Internal server error"}
    assert "a secret of the server" in caplog.text
    assert "alice-1" not in caplog.text


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (call("refuse"), -32602),
        (request("tools/call", {"name": 3}), -32602),
        (request("no/such/method"), -32601),
    ],
)
async def test_protocol_errors_come_with_a_200(
    endpoint: Endpoint, message: dict[str, Any], code: int
) -> None:
    response = await endpoint.post(message, session=await endpoint.open(), token="alice-1")

    assert response.status_code == 200
    assert response.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "accept", ["", "application/json", "text/event-stream", "text/html", "application/*"]
)
async def test_accept_must_list_both(endpoint: Endpoint, accept: str) -> None:
    session = await endpoint.open()
    headers = {"Accept": accept}

    legacy = await endpoint.post(request("ping"), session=session, headers=headers)
    modern = await endpoint.modern("server/discover", headers=headers)

    assert (legacy.status_code, modern.status_code) == (406, 406)


@pytest.mark.parametrize(
    "accept", ["*/*", "text/event-stream;q=0.5, application/json", "Application/*, Text/*"]
)
async def test_accept_may_be_spelled_otherwise(endpoint: Endpoint, accept: str) -> None:
    session = await endpoint.open()

    response = await endpoint.post(request("ping"), session=session, headers={"Accept": accept})

    assert response.status_code == 200


async def test_a_batch_is_answered_in_one_array(endpoint: Endpoint) -> None:
    session = await endpoint.open()
    batch = [
        call("whoami", 1),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        request("no/such/method", request_id=2),
        "nonsense",
        {"jsonrpc": "2.0", "id": 9, "result": {}},
        call("count", 3, **PROGRESS),
    ]

    response = await endpoint.post(batch, session=session, token="alice-1", version=OLD)

    first, second, third, fourth = response.json()
    assert (first["id"], first["result"]["content"][0]["text"]) == (1, "alice")
    assert (second["id"], second["error"]["code"]) == (2, -32601)
    assert (third["id"], third["error"]["code"]) == (None, -32600)
    assert (fourth["id"], fourth["result"]["content"][0]["text"]) == (3, "alice")


async def test_a_batch_without_the_header_is_of_the_revision_that_has_them(
    endpoint: Endpoint,
) -> None:
    response = await endpoint.post([request("ping")], session=await endpoint.open(), version=None)

    assert [reply["id"] for reply in response.json()] == [7]


async def test_a_batch_of_notifications_is_accepted(endpoint: Endpoint) -> None:
    batch = [{"jsonrpc": "2.0", "method": "notifications/initialized"}] * 2

    response = await endpoint.post(batch, session=await endpoint.open(), version=OLD)

    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize(
    "entry",
    [
        request("ping"),
        request("tools/list"),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    ],
    ids=["ping", "tools/list", "notification", "response"],
)
async def test_other_requests_run_between_the_entries_of_a_batch(
    endpoint: Endpoint, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch needs no token where its entries need none, and fifty take ten milliseconds."""
    passes = 0
    loop = asyncio.get_running_loop()
    read_at: list[int] = []
    read = JSONRPCRequest.model_validate

    def count() -> None:
        nonlocal passes
        passes += 1
        if len(read_at) < 3:
            loop.call_soon(count)

    def reading(message: object) -> JSONRPCRequest:
        read_at.append(passes)
        return read(message)

    session = await endpoint.open()
    monkeypatch.setattr(JSONRPCRequest, "model_validate", reading)
    loop.call_soon(count)
    response = await endpoint.post([entry] * 3, session=session, version=OLD)

    assert response.status_code in {200, 202}
    assert len(set(read_at)) == 3


async def test_a_batch_needs_what_its_entries_need_together(endpoint: Endpoint) -> None:
    session = await endpoint.open()
    batch = [request("ping"), call("public", 1), call("write", 2)]

    anonymous = await endpoint.post(batch, session=session, version=OLD)
    reader = await endpoint.post(batch, session=session, version=OLD, token="alice-reader")

    assert anonymous.status_code == 401
    assert reader.status_code == 403
    assert 'scope="things.read things.write"' in reader.headers["www-authenticate"]


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", LEGACY, "2026-07-28"])
async def test_other_revisions_have_no_batches(endpoint: Endpoint, version: str) -> None:
    response = await endpoint.post(
        [request("ping")], session=await endpoint.open(), version=version
    )

    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600


async def test_initialize_is_no_part_of_a_batch(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.post([initialize()], session=session, version=OLD)

    assert response.status_code == 400
    assert set(endpoint.resolver.sessions) == {session}
