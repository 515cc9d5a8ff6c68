"""Responses that stream end with their caller; answers that come in one piece do not."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from authsvc.access.rates import CallRates, ServiceRates
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import Rate
from authsvc.domain.resolution import Resolution, Resolver, shown
from authsvc.http_auth.refusals import Refusal, service_unavailable, unauthenticated
from authsvc.server.running import running as running_authsvc
from mcp_adapter import SessionGate
from mcp_adapter.gate import caller_checks
from mcp_adapter.gate.watching import Watched
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    MODERN,
    RESOURCE,
    SCOPES,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    end_session,
    expire,
    initialize,
    owner,
    principal,
    request,
    revoke,
    running,
)
from tests.support import operators, tokens
from tests.support.clock import Clock
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

HELD = call("hold", _meta={"progressToken": 1})


def take_scopes(endpoint: Endpoint, session: str) -> str:
    endpoint.resolver.tokens["alice-1"] = principal("alice", SCOPES[1])
    return "INSUFFICIENT_SCOPE"


def break_resolver(endpoint: Endpoint, session: str) -> str:
    endpoint.resolver.error = AuthError(Reason.STORE_UNAVAILABLE)
    return "STORE_UNAVAILABLE"


End = Callable[[Endpoint, str], str]
ENDS = [revoke, expire, end_session, take_scopes, break_resolver]


@asynccontextmanager
async def streaming(
    endpoint: Endpoint, method: str, session: str, token: str = "alice-1", body: object = None
) -> AsyncIterator[httpx2.Response]:
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": LEGACY,
        **({"Authorization": f"Bearer {token}"} if token else {}),
        **({"Mcp-Session-Id": session} if session else {}),
    }
    with anyio.fail_after(DEADLINE_SECONDS):
        async with endpoint.http.stream(method, "/mcp", json=body, headers=headers) as response:
            assert response.status_code == 200
            yield response


@pytest.mark.parametrize("end", ENDS)
async def test_a_call_that_streams_ends_with_its_caller(
    endpoint: Endpoint, end: End, caplog: pytest.LogCaptureFixture
) -> None:
    session = await endpoint.open("alice-1")
    endpoint.meeting.expected = 2
    caplog.set_level("INFO", "mcp_adapter")

    async with streaming(endpoint, "POST", session, body=HELD) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "event: message"
        reason = end(endpoint, session)
        text = [line async for line in lines]

    messages = [json.loads(line[5:]) for line in text if line.startswith("data:")]
    assert [message.get("method") for message in messages] == ["notifications/progress", None]
    assert messages[-1]["id"] == 7
    assert messages[-1]["error"]["data"] == {"reason": reason}
    check_logged(caplog, shown(session), "alice")


def check_logged(caplog: pytest.LogCaptureFixture, session: str, subject: str) -> None:
    """The log says whose stream was ended; so does each check that was rejected."""
    logged = [record for record in caplog.records if record.name.startswith("mcp_adapter")]
    assert logged[-1].getMessage() == "a stream was ended"
    for record in logged:
        fields = record.__dict__
        assert fields["reason"]
        assert (fields["session"], fields["subject"]) == (session, subject)


async def test_delete_ends_the_calls_that_stream(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")
    endpoint.meeting.expected = 2

    async with streaming(endpoint, "POST", session, body=HELD) as response:
        lines = response.aiter_lines()
        await anext(lines)
        headers = {
            "Mcp-Session-Id": session,
            "MCP-Protocol-Version": LEGACY,
            "Authorization": "Bearer alice-2",
        }
        assert (await endpoint.http.delete("/mcp", headers=headers)).status_code == 204
        text = "\n".join([line async for line in lines])

    assert "SESSION_NOT_FOUND" in text


async def test_a_call_that_streams_goes_on_with_its_caller(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    session = await endpoint.open("alice-1")
    endpoint.meeting.expected = 2

    async with streaming(endpoint, "POST", session, body=HELD) as response:
        lines = response.aiter_lines()
        await anext(lines)
        await checked_again(endpoint.resolver)
        await endpoint.meeting.join()
        text = "\n".join([line async for line in lines])

    assert '"text":"alice"' in text


async def checked_again(resolver: MemoryResolver) -> None:
    """Wait until a stream's caller was checked a few times more."""
    wanted = len(resolver.calls) + 3
    await until(lambda: len(resolver.calls) >= wanted)


async def until(reached: Callable[[], bool]) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        while not reached():
            await anyio.lowlevel.checkpoint()


async def test_a_call_that_does_not_stream_is_finished(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, and whatever becomes of its token meanwhile."""
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    session = await endpoint.open("alice-1")
    endpoint.meeting.expected = 2
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await endpoint.post(call("hold"), session=session, token="alice-1"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await until(lambda: ("resolve", session, "alice-1") in endpoint.resolver.calls)
        revoke(endpoint, session)
        await endpoint.meeting.join()

    assert answers[0].json()["result"]["content"][0]["text"] == "alice"


# Apps of any kind.


class App:
    """Streams on each method, and says when it was stopped."""

    def __init__(self) -> None:
        self.media_type = "text/event-stream"
        self.headers: dict[str, str] = {}
        self.chunk = "data: {}\n\n"
        self.stopped = anyio.Event()
        self.thread_may_end = threading.Event()

    async def __call__(self, request: Request) -> Response:
        headers = dict(self.headers)
        if request.method == "POST" and request.state.mcp_message.get("method") == "initialize":
            headers["Mcp-Session-Id"] = "first"
        return StreamingResponse(self.chunks(), headers=headers, media_type=self.media_type)

    async def chunks(self) -> AsyncIterator[str]:
        try:
            yield self.chunk
            await anyio.sleep_forever()
        finally:
            self.stopped.set()


class Threaded(App):
    """Is in a thread, where nothing can stop it."""

    async def __call__(self, request: Request) -> Response:
        return StreamingResponse(self.blocking(), media_type=self.media_type)

    def blocking(self) -> Iterator[str]:
        yield self.chunk
        self.thread_may_end.wait(DEADLINE_SECONDS)


@asynccontextmanager
async def gated(
    app: App, resolver: Resolver, resource: str = RESOURCE
) -> AsyncIterator[httpx2.AsyncClient]:
    gate = SessionGate(
        Starlette(routes=[Route("/mcp", app.__call__, methods=["GET", "POST", "DELETE"])]),
        resolver=resolver,
        resource=resource,
        stateful=True,
        streams=True,
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield http


@asynccontextmanager
async def serving(app: App, resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    async with gated(app, resolver) as http:
        yield Endpoint(http, resolver, Meeting())


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_limit_of_calls_ends_no_stream(
    resolver: MemoryResolver, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It counts when it is opened; the checks while it lasts count as nothing."""
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    resolver._rates = CallRates(ServiceRates(per_subject=Rate(1e-6, 1.0)))  # as authsvc has them
    resolver.sessions["first"] = owner("alice")
    app = App()
    async with serving(app, resolver) as endpoint:
        body = request("ping") if method == "POST" else None
        async with streaming(endpoint, method, "first", body=body) as response:
            parts = response.aiter_text()
            assert await anext(parts) == app.chunk
            await checked_again(resolver)
            another = await endpoint.post(request("ping"), session="first", token="alice-1")
            assert another.status_code == 429
            await checked_again(resolver)
            assert not app.stopped.is_set()
            reason = revoke(endpoint, "first")
            rest = "".join([part async for part in parts])
    # What a GET opens has no request that an error would answer.
    assert (reason in rest) == (method == "POST")
    assert "RATE_LIMITED" not in rest


@pytest.mark.parametrize("end", [revoke, expire, end_session, break_resolver])
@pytest.mark.parametrize("media_type", ["text/event-stream", "application/json", "text/plain"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_any_stream_ends_with_its_caller(
    resolver: MemoryResolver, method: str, media_type: str, end: End
) -> None:
    app = App()
    app.media_type = media_type
    resolver.sessions["first"] = owner("alice")
    async with serving(app, resolver) as endpoint:
        body = request("ping") if method == "POST" else None
        async with streaming(endpoint, method, "first", body=body) as response:
            parts = response.aiter_text()
            assert await anext(parts) == app.chunk
            end(endpoint, "first")
            rest = "".join([part async for part in parts])
            await app.stopped.wait()
    assert ("error" in rest) == (method == "POST" and media_type == "text/event-stream")


async def test_a_stream_of_a_delete_ends_with_the_token(resolver: MemoryResolver) -> None:
    """And not with the session, which the request has ended itself."""
    resolver.sessions["first"] = owner("alice")
    async with (
        serving(App(), resolver) as endpoint,
        streaming(endpoint, "DELETE", "first") as response,
    ):
        parts = response.aiter_text()
        assert await anext(parts) == App().chunk
        await checked_again(resolver)
        revoke(endpoint, "first")
        assert [part async for part in parts] == []


async def test_a_stream_without_a_token_ends_with_its_session(
    resolver: MemoryResolver, caplog: pytest.LogCaptureFixture
) -> None:
    """As the answer to an ``initialize`` can be one."""
    caplog.set_level("INFO", "mcp_adapter")
    async with (
        serving(App(), resolver) as endpoint,
        streaming(endpoint, "POST", "", token="", body=initialize()) as response,
    ):
        parts = response.aiter_text()
        await anext(parts)
        assert response.headers["mcp-session-id"] == "first"
        end_session(endpoint, "first")
        rest = "".join([part async for part in parts])
    assert "SESSION_NOT_FOUND" in rest
    assert [method for method, *_ in resolver.calls].count("create") == 0
    check_logged(caplog, shown("first"), "")


async def test_half_an_event_is_not_made_whole(resolver: MemoryResolver) -> None:
    app = App()
    app.chunk = "data: {}\ndata: "
    resolver.sessions["first"] = owner("alice")
    async with (
        serving(app, resolver) as endpoint,
        streaming(endpoint, "POST", "first", body=request("ping")) as response,
    ):
        parts = response.aiter_text()
        await anext(parts)
        revoke(endpoint, "first")
        assert [part async for part in parts] == []


async def test_a_response_of_a_known_length_is_cut_off(resolver: MemoryResolver) -> None:
    app = App()
    app.media_type, app.headers = "application/octet-stream", {"Content-Length": "100"}
    resolver.sessions["first"] = owner("alice")
    async with (
        serving(app, resolver) as endpoint,
        streaming(endpoint, "GET", "first") as response,
    ):
        parts = response.aiter_text()
        await anext(parts)
        revoke(endpoint, "first")
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(parts)


async def test_a_stream_ends_though_its_app_cannot_be_stopped(resolver: MemoryResolver) -> None:
    app = Threaded()
    resolver.sessions["first"] = owner("alice")
    async with serving(app, resolver) as endpoint:
        async with streaming(endpoint, "POST", "first", body=request("ping")) as response:
            parts = response.aiter_text()
            await anext(parts)
            reason = revoke(endpoint, "first")
            rest = "".join([part async for part in parts])
        app.thread_may_end.set()
    assert reason in rest


class Hung(MemoryResolver):
    """Answers nothing any more, once it was asked."""

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        **counts: Any,  # noqa: ANN401 - whatever the fake takes
    ) -> Resolution:
        if self.calls:
            await anyio.sleep_forever()
        return await super().resolve(session_id, token, resource=resource, create=create, **counts)


async def test_a_stream_ends_when_its_caller_cannot_be_checked() -> None:
    resolver = Hung(tokens={"alice-1": principal("alice")}, sessions={"first": owner("alice")})
    async with (
        serving(App(), resolver) as endpoint,
        streaming(endpoint, "POST", "first", body=request("ping")) as response,
    ):
        text = "".join([part async for part in response.aiter_text()])
    assert '"code":503' in text


async def test_a_short_outage_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", DEADLINE_SECONDS)
    outcomes: list[Exception | None] = [
        None,
        service_unavailable(),
        None,
        service_unavailable(),
        service_unavailable(),
        None,
        unauthenticated(()),
    ]
    asked: list[object] = []

    async def check() -> None:
        asked.append(outcome := outcomes[len(asked)])
        if outcome is not None:
            raise outcome

    assert await sent_by(check) == b"data: 1\n\n" + last_event(unauthenticated(()))
    assert asked == outcomes


async def test_a_stream_that_ends_for_want_of_an_answer_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)

    last = (await sent_by(anyio.sleep_forever)).split(b"\r\n")[-3]

    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["data"]) == (503, {"reason": "SERVICE_UNAVAILABLE"})


async def test_a_check_that_breaks_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def check() -> None:
        raise RuntimeError

    assert b"Internal server error" in await sent_by(check)


async def test_an_app_that_goes_on_regardless_sends_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def check() -> None:
        raise unauthenticated(())

    with pytest.raises(OSError, match="no longer"):
        await sent_by(check, stubborn=True)


async def test_what_an_app_raises_when_it_is_ended_is_not_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def check() -> None:
        raise unauthenticated(())

    assert (await sent_by(check, fails=True)).endswith(last_event(unauthenticated(())))


async def test_a_cancellation_from_elsewhere_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def check() -> None:
        scope.cancel()
        raise unauthenticated(())

    with anyio.CancelScope() as scope:
        await sent_by(check)
        pytest.fail("it was cancelled")
    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", ["http.response.early_hint", "http.response.push"])
async def test_what_is_no_part_of_a_response_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def check() -> None:
        raise unauthenticated(())

    assert await sent_by(check, besides=({"type": kind},)) == b"data: 1\n\n" + last_event(
        unauthenticated(())
    )


async def test_what_an_app_raises_while_its_caller_may_go_on_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the app's own")

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async def check() -> None:
        raise AssertionError

    watched = Watched(send, check, refuse_nothing, 7)
    with pytest.raises(RuntimeError, match="the app's own"):
        await watched.serve(app, {}, receive, watched.send)


async def refuse_nothing(refusal: Refusal) -> None:
    raise AssertionError(refusal)


async def sent_by(
    check: caller_checks.Check,
    *,
    stubborn: bool = False,
    fails: bool = False,
    besides: tuple[Message, ...] = (),
) -> bytes:
    """What a client gets of an endless stream that begins as soon as its request is admitted."""
    body = b""

    async def send(message: Message) -> None:
        nonlocal body
        body += message.get("body", b"")

    failure: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
        await send(chunk)
        for message in besides:
            await send(message)
        try:
            await anyio.sleep_forever()
        finally:
            if fails:
                raise RuntimeError("of its own")
            if stubborn:
                try:
                    await send(chunk)
                except OSError as error:
                    failure.append(error)

    async def receive() -> Message:
        raise AssertionError

    with anyio.fail_after(DEADLINE_SECONDS), pytest.MonkeyPatch.context() as patch:
        patch.setattr(caller_checks, "monotonic", Clock())
        watched = Watched(send, check, refuse_nothing, 7)
        await watched.serve(app, {}, receive, watched.send)
    if failure:
        raise failure[0]
    return body


def last_event(refusal: Refusal) -> bytes:
    data = json.dumps(refusal.message_for(7), separators=(",", ":"))
    return f"event: message\r\ndata: {data}\r\n\r\n".encode()


async def test_an_answer_in_one_piece_costs_no_check(resolver: MemoryResolver) -> None:
    async def answer(request: Request) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}})

    gate = SessionGate(
        Starlette(routes=[Route("/mcp", answer, methods=["POST"])]),
        resolver=resolver,
        resource=RESOURCE,
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, Meeting())
        for _ in range(3):
            await endpoint.post(request("x"), token="alice-1", version=MODERN)
    assert len(resolver.calls) == 3


# With a real authsvc.


@pytest.mark.parametrize(
    "end",
    [
        *("expired", "subject revoked", "token revoked", "everyone revoked", "session revoked"),
        *("signed out", "signed out, without a sid"),
    ],
)
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_stream_ends_once_authsvc_says_so(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, version: str, end: str
) -> None:
    sid = None if end == "signed out, without a sid" else "sid"
    token = idp.token(ttl_seconds=60, jti="j1", sid=sid)
    tls = operators.write_tls(tmp_path)
    settings = operators.settings(tmp_path, tls, idp, "memory")
    async with (
        running_authsvc(settings, clock=clock) as address,
        operators.clients(address, tls) as site,
        gated(App(), site.server, resource=tokens.RESOURCE) as http,
    ):
        session = (await site.resolve("" if version == MODERN else "first", token)).session
        assert session is not None
        headers = {
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": version,
            **({"Mcp-Session-Id": session.id} if version == LEGACY else {}),
        }
        with anyio.fail_after(DEADLINE_SECONDS):
            async with http.stream(
                "POST", "/mcp", json=request("ping"), headers=headers
            ) as response:
                parts = response.aiter_text()
                assert await anext(parts) == App().chunk
                match end:
                    case "expired":
                        clock.advance(91)
                    case "subject revoked":
                        await site.operator.revoke_subject(idp.issuer, "alice")
                    case "token revoked":
                        await site.operator.revoke_token(idp.issuer, "j1")
                    case "everyone revoked":
                        await site.operator.revoke_everyone()
                    case "session revoked":
                        await site.operator.revoke_session(session.id)
                    case "signed out":
                        await site.operator.revoke_provider_session(idp.issuer, "sid")
                    case "signed out, without a sid":
                        await site.operator.revoke_provider_session(
                            idp.issuer, "another", subject="alice"
                        )
                rest = "".join([part async for part in parts])
    assert '"reason":' in rest


async def test_a_stream_of_another_provider_session_goes_on(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two browsers of one user: signing out in one ends its own streams alone."""
    tls = operators.write_tls(tmp_path)
    settings = operators.settings(tmp_path, tls, idp, "memory")
    texts = {sid: idp.token(sid=sid) for sid in ("one", "other")}
    accepted: list[str] = []
    async with (
        running_authsvc(settings, clock=clock) as address,
        operators.clients(address, tls) as site,
    ):
        resolve = site.server.resolve

        async def noted(session_id: str, token: str = "", **more: Any) -> Resolution:  # noqa: ANN401 - as resolve has it
            answer = await resolve(session_id, token, **more)
            accepted.append(token)
            return answer

        monkeypatch.setattr(site.server, "resolve", noted)
        async with gated(App(), site.server, resource=tokens.RESOURCE) as http:

            @asynccontextmanager
            async def stream_of(sid: str) -> AsyncIterator[AsyncIterator[str]]:
                headers = {
                    "Authorization": f"Bearer {texts[sid]}",
                    "MCP-Protocol-Version": MODERN,
                }
                async with http.stream(
                    "POST", "/mcp", json=request("ping"), headers=headers
                ) as response:
                    parts = response.aiter_text()
                    assert await anext(parts) == App().chunk
                    yield parts

            with anyio.fail_after(DEADLINE_SECONDS):
                async with stream_of("one") as one, stream_of("other") as other:
                    await site.operator.revoke_provider_session(idp.issuer, "one", subject="alice")
                    assert "TOKEN_REVOKED" in "".join([part async for part in one])
                    count = accepted.count(texts["other"])
                    await until(lambda: accepted.count(texts["other"]) > count + 1)
                    await site.operator.revoke_provider_session(idp.issuer, "other")
                    assert "TOKEN_REVOKED" in "".join([part async for part in other])
