"""Session ids that an app mints: what the gate adopts, and what no client ever gets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolution
from mcp_adapter import SessionGate
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    bare,
    call,
    initialize,
    owner,
    running,
)

pytestmark = pytest.mark.anyio


class App:
    """Answers everything, and initialize with a session id of its own."""

    def __init__(self) -> None:
        self.ids = ["first", "second", "third"]
        self.status = 200
        self.seen: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request)
        if request.method != "POST" or "id" not in request.state.mcp_message:
            return Response(status_code=202)
        opens = request.state.mcp_message["method"] == "initialize"
        headers = {"Mcp-Session-Id": self.ids.pop(0)} if opens and self.ids else None
        answer = {"jsonrpc": "2.0", "id": request.state.mcp_message["id"], "result": {}}
        return JSONResponse(answer, self.status, headers)


@pytest.fixture
def app() -> App:
    return App()


@asynccontextmanager
async def served(app: App, resolver: MemoryResolver, *, stateful: bool) -> AsyncIterator[Endpoint]:
    methods = ["GET", "POST", "DELETE"]
    gate = SessionGate(
        Starlette(routes=[Route("/mcp", app.__call__, methods=methods)]),
        resolver=resolver,
        resource=RESOURCE,
        stateful=stateful,
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, Meeting())


@pytest.fixture
async def stateful(app: App, resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    async with served(app, resolver, stateful=True) as endpoint:
        yield endpoint


async def test_the_one_who_opens_a_session_owns_it(stateful: Endpoint) -> None:
    assert await stateful.open("alice-1") == "first"

    assert stateful.resolver.sessions == {"first": owner("alice")}
    for token, status in (("alice-2", 200), ("bob", 404)):
        response = await stateful.post(call("x"), session="first", token=token)
        assert response.status_code == status


async def test_an_id_in_use_is_given_to_no_other_client(
    stateful: Endpoint, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """As of an app whose every session is called ``default``."""
    app.ids = ["same-one-for-all"] * 3
    assert await stateful.open("alice-1")

    for token in ("bob", "alice-1"):
        response = await stateful.post(initialize(), token=token, version=None)
        assert response.status_code == 500
        assert "mcp-session-id" not in response.headers
        assert response.json() == {
            "jsonrpc": "2.0",
            "id": 7,
            "error": {"code": -32603, "message": "Internal server error."},
        }
    assert stateful.resolver.sessions == {"same-one-for-all": owner("alice")}
    assert "cannot be had: same-one…" in caplog.text
    assert "same-one-for-all" not in caplog.text


class Failing(MemoryResolver):
    """Fails to register what an app has minted."""

    reason = Reason.STORE_UNAVAILABLE

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        **counts: Any,  # noqa: ANN401 - whatever the fake takes
    ) -> Resolution:
        if create:
            raise AuthError(self.reason)
        return await super().resolve(session_id, token, resource=resource, **counts)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.STORE_UNAVAILABLE, 503),
        (Reason.SESSION_LIMIT, 429),
        (Reason.TOKEN_EXPIRED, 401),
        (Reason.SESSION_ID_INVALID, 500),
        (Reason.SESSION_REVOKED, 500),
        (Reason.SESSION_SUBJECT_MISMATCH, 500),
    ],
)
async def test_what_cannot_be_registered_reaches_no_client(
    app: App, reason: Reason, status: int
) -> None:
    resolver = Failing()
    resolver.reason = reason
    async with served(app, resolver, stateful=True) as endpoint:
        response = await endpoint.post(initialize(), version=None)

    assert response.status_code == status
    assert "mcp-session-id" not in response.headers
    assert "result" not in response.json()


@pytest.mark.parametrize("status", [201, 400])
async def test_only_an_answer_that_opens_a_session_bears_an_id(
    stateful: Endpoint, app: App, status: int
) -> None:
    app.status = status

    response = await stateful.post(initialize(), version=None)

    assert (response.status_code, stateful.resolver.sessions) == (status, {})
    assert "mcp-session-id" not in response.headers


async def test_an_answer_without_an_id_opens_no_session(stateful: Endpoint, app: App) -> None:
    app.ids = []

    response = await stateful.post(initialize(), version=None)

    assert (response.status_code, stateful.resolver.sessions) == (200, {})
    assert "mcp-session-id" not in response.headers


async def test_an_app_that_keeps_sessions_is_not_taken_for_one_that_does_not(
    app: App, resolver: MemoryResolver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with served(app, resolver, stateful=False) as endpoint:
            response = await endpoint.post(initialize(), version=None)

    assert response.status_code == 500
    assert "mcp-session-id" not in bare(response)
    assert "make it stateless, or the gate stateful" in caplog.text


async def test_the_app_sees_neither_token_nor_the_session_that_is_left(
    stateful: Endpoint, app: App
) -> None:
    session = await stateful.open("alice-1")
    await stateful.post(initialize(), session=session, token="alice-1", version=None)
    await stateful.post(call("x"), session=session, token="alice-1")

    assert [request.headers.get("mcp-session-id") for request in app.seen] == [None, None, session]
    assert not any("authorization" in request.headers for request in app.seen)


async def test_delete_reaches_the_app_once_authsvc_has_ended_the_session(
    stateful: Endpoint, app: App
) -> None:
    session = await stateful.open("alice-1")
    headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}

    without = await stateful.http.delete("/mcp", headers=headers)
    stateful.resolver.error = AuthError(Reason.STORE_UNAVAILABLE)
    headers["Authorization"] = "Bearer alice-1"
    away = await stateful.http.delete("/mcp", headers=headers)
    stateful.resolver.error = None
    ended = await stateful.http.delete("/mcp", headers=headers)

    assert [answer.status_code for answer in (without, away, ended)] == [401, 503, 202]
    assert stateful.resolver.sessions == {}
    assert [request.method for request in app.seen] == ["POST", "DELETE"]
    assert "authorization" not in app.seen[-1].headers


async def test_an_app_that_mints_no_id_is_logged_once(
    stateful: Endpoint, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.ids = []

    for _ in range(3):
        response = await stateful.post(initialize(), version=None)
        assert response.status_code == 200
        assert "mcp-session-id" not in response.headers

    [record] = [it for it in caplog.records if it.levelno >= logging.WARNING]
    assert record.levelname == "WARNING"
    assert "make the app stateful, or leave out stateful=True" in record.getMessage()


async def test_no_stream_is_opened_unless_it_is_asked_for(stateful: Endpoint) -> None:
    session = await stateful.open("alice-1")
    headers = {"Mcp-Session-Id": session, "Authorization": "Bearer alice-1"}

    response = await stateful.http.get("/mcp", headers=headers)

    assert (response.status_code, response.headers["allow"]) == (405, "POST, DELETE, OPTIONS")


def test_streams_need_sessions(resolver: MemoryResolver) -> None:
    with pytest.raises(ValueError, match="streams needs stateful=True"):
        SessionGate(Starlette(), resolver=resolver, resource=RESOURCE, streams=True)
