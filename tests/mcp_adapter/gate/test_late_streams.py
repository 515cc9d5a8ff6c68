"""A stream that begins after its caller's token or session has ended: no byte of it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.refusals import Refusal, unauthenticated
from authsvc.http_auth.resolving import RequestResolver
from mcp_adapter import SessionGate
from mcp_adapter.gate import caller_checks
from mcp_adapter.gate.watching import Watched
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    MODERN,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    end_session,
    expire,
    initialize,
    message_of,
    owner,
    request,
    revoke,
    running,
)
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

EVENT = b"data: 1\n\n"
EVENT_STREAM = "text/event-stream"
JSON = "application/json"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the watch goes by. Its timers stay real, and far off: no test waits for one."""
    clock = Clock()
    monkeypatch.setattr(caller_checks, "monotonic", clock)
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 10 * DEADLINE_SECONDS)
    return clock


def pass_by(now: Clock) -> None:
    """Half a second passes, by the watch's clock."""
    now.advance(caller_checks.CHECK_SECONDS + 0.1)


def break_resolver(endpoint: Endpoint, session: str) -> str:
    endpoint.resolver.error = ConnectionError()
    return "Internal server error."


def fail_store(endpoint: Endpoint, session: str) -> str:
    endpoint.resolver.error = AuthError(Reason.STORE_UNAVAILABLE)
    return "STORE_UNAVAILABLE"


def nothing(endpoint: Endpoint, session: str) -> str:
    return ""


# Through the gate.


class Late:
    """Answers once it may."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self.answer = answer
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("it has none")
        self.asked.set()
        await self.may_answer.wait()
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)


def streamed(media_type: str, headers: dict[str, str] | None = None) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield EVENT
        yield EVENT

    return StreamingResponse(chunks(), media_type=media_type, headers=headers)


@asynccontextmanager
async def gated(
    app: ASGIApp, resolver: MemoryResolver, *, stateful: bool = True
) -> AsyncIterator[Endpoint]:
    gate = SessionGate(
        app, resolver=resolver, resource=RESOURCE, stateful=stateful, streams=stateful
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, Meeting())


async def answered_late(
    late: Late,
    endpoint: Endpoint,
    now: Clock,
    end: Callable[[Endpoint, str], str],
    *,
    method: str = "POST",
    version: str = LEGACY,
    body: object = None,
) -> tuple[httpx2.Response, str]:
    """What the caller gets of an answer that begins after its end; and the reason."""
    headers = {
        "Accept": f"application/json, {EVENT_STREAM}",
        "MCP-Protocol-Version": version,
        "Authorization": "Bearer alice-1",
        **({"Mcp-Session-Id": "first"} if version == LEGACY else {}),
    }
    endpoint.resolver.sessions["first"] = owner("alice")
    got: list[httpx2.Response] = []

    async def ask() -> None:
        got.append(await endpoint.http.request(method, "/mcp", json=body, headers=headers))

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await late.asked.wait()
            reason = end(endpoint, "first")
            pass_by(now)
            late.may_answer.set()
    return got[0], reason


@pytest.mark.parametrize("end", [revoke, expire, break_resolver])
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_call_is_answered_by_an_error_as_its_one_event(
    resolver: MemoryResolver, now: Clock, version: str, end: Callable[[Endpoint, str], str]
) -> None:
    """No 401: a client would get a new token, and have the call run a second time."""

    async def answer(request: Request) -> Response:
        return streamed(EVENT_STREAM)

    late = Late(answer)
    async with gated(late, resolver, stateful=version == LEGACY) as endpoint:
        response, reason = await answered_late(
            late, endpoint, now, end, version=version, body=request("ping")
        )

    assert response.status_code == 200
    [data] = [line for line in response.text.splitlines() if line.startswith("data:")]
    message = json.loads(data[5:])
    assert message["id"] == 7
    assert reason in json.dumps(message["error"])


@pytest.mark.parametrize(
    ("end", "status"), [(revoke, 401), (expire, 401), (end_session, 404), (break_resolver, 500)]
)
@pytest.mark.parametrize("media_type", [EVENT_STREAM, "text/plain"])
async def test_a_stream_that_owes_no_answer_is_refused_by_its_status(
    resolver: MemoryResolver,
    now: Clock,
    media_type: str,
    end: Callable[[Endpoint, str], str],
    status: int,
) -> None:
    async def answer(request: Request) -> Response:
        return streamed(media_type)

    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        response, reason = await answered_late(late, endpoint, now, end, method="GET")

    assert response.status_code == status
    assert reason in response.text
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("media_type", [EVENT_STREAM, JSON])
async def test_a_notification_that_is_answered_by_a_stream_is_refused(
    resolver: MemoryResolver, now: Clock, media_type: str
) -> None:
    async def answer(request: Request) -> Response:
        return streamed(media_type)

    late = Late(answer)
    body = {"jsonrpc": "2.0", "method": "notifications/x"}
    async with gated(late, resolver) as endpoint:
        response, _ = await answered_late(late, endpoint, now, revoke, body=body)

    assert response.status_code == 401


@pytest.mark.parametrize("media_type", ["text/plain", JSON])
async def test_a_call_that_is_answered_in_pieces_gets_an_error_in_a_200(
    resolver: MemoryResolver, now: Clock, media_type: str
) -> None:
    """Of any type: a client would repeat the call after a 401."""

    async def answer(request: Request) -> Response:
        return streamed(media_type, {"X-Of-The-App": "kept"})

    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        response, reason = await answered_late(late, endpoint, now, revoke, body=request("ping"))

    assert (response.status_code, response.headers["content-type"]) == (200, JSON)
    assert response.headers["x-of-the-app"] == "kept"
    assert response.json()["id"] == 7
    assert response.json()["error"]["data"] == {"reason": reason}


async def test_the_event_that_ends_an_encoded_stream_is_not_encoded(
    resolver: MemoryResolver, now: Clock
) -> None:
    async def answer(request: Request) -> Response:
        return streamed(EVENT_STREAM, {"Content-Encoding": "gzip"})

    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        response, reason = await answered_late(late, endpoint, now, revoke, body=request("ping"))

    assert response.status_code == 200
    assert "content-encoding" not in response.headers
    assert reason in response.text


@pytest.mark.parametrize("end", [fail_store, break_resolver])
async def test_an_outage_empties_no_json_that_comes_in_pieces(
    resolver: MemoryResolver,
    now: Clock,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Endpoint, str], str],
) -> None:
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)

    async def answer(request: Request) -> Response:
        return streamed(JSON)

    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        response, _ = await answered_late(late, endpoint, now, end, body=request("ping"))

    assert (response.status_code, response.content) == (200, EVENT + EVENT)


@pytest.mark.parametrize("media_type", ["text/plain", JSON, EVENT_STREAM])
@pytest.mark.parametrize(("end", "status"), [(nothing, 200), (revoke, 401), (expire, 401)])
async def test_the_answer_to_a_delete_goes_by_the_token_alone(
    resolver: MemoryResolver,
    now: Clock,
    end: Callable[[Endpoint, str], str],
    status: int,
    media_type: str,
) -> None:
    """The request has ended its session itself, which is its success."""

    async def answer(request: Request) -> Response:
        return streamed(media_type)

    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        response, _ = await answered_late(late, endpoint, now, end, method="DELETE")

    assert response.status_code == status
    assert (response.content == EVENT + EVENT) == (status == 200)


@pytest.mark.parametrize("media_type", [EVENT_STREAM, JSON])
async def test_an_initialize_that_is_answered_late_is_refused_too(
    resolver: MemoryResolver, now: Clock, media_type: str
) -> None:
    """A session that its app has opened can end before it is announced: then it is not."""

    async def answer(request: Request) -> Response:
        return streamed(media_type, {"Mcp-Session-Id": "second"})

    class Ending(MemoryResolver):
        async def resolve(self, session_id: str, token: str, **options: Any) -> Any:  # noqa: ANN401
            resolution = await super().resolve(session_id, token, **options)
            self.sessions.pop("second", None)
            return resolution

    late = Late(answer)
    async with gated(late, Ending(tokens=resolver.tokens)) as endpoint:
        response, _ = await answered_late(late, endpoint, now, nothing, body=initialize())

    assert response.status_code == 404
    assert "mcp-session-id" not in response.headers
    assert "SESSION_NOT_FOUND" in response.text
    assert EVENT.decode() not in response.text


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_the_reference_server_reports_nothing_late(
    endpoint: Endpoint, now: Clock, version: str
) -> None:
    """Its stream begins with the first report of progress."""
    endpoint.meeting.expected = 2
    session = await endpoint.open("alice-1") if version == LEGACY else None
    meta: dict[str, object] = {"progressToken": 1}
    if version == MODERN:
        meta["io.modelcontextprotocol/protocolVersion"] = MODERN
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "count"}
    got: list[httpx2.Response] = []

    async def ask() -> None:
        body = call("count", _meta=meta)
        got.append(
            await endpoint.post(
                body, session=session, token="alice-1", version=version, headers=headers
            )
        )

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while endpoint.meeting.arrived == 0:
                await anyio.lowlevel.checkpoint()
            revoke(endpoint, "")
            pass_by(now)
            await endpoint.meeting.join()

    assert "TOKEN_REVOKED" in got[0].text
    assert "notifications/progress" not in got[0].text


class Slow(MemoryResolver):
    """The stream's first check waits until it may be answered."""

    def __init__(self, resolver: MemoryResolver) -> None:
        super().__init__(tokens=resolver.tokens)
        self.is_slow = False
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def resolve(self, session_id: str, token: str, **options: Any) -> Any:  # noqa: ANN401
        if self.is_slow:
            self.asked.set()
            await self.may_answer.wait()
        return await super().resolve(session_id, token, **options)


async def test_a_call_that_is_cancelled_while_its_stream_waits_for_the_check_is_answered(
    resolver: MemoryResolver, now: Clock
) -> None:
    slow, meeting = Slow(resolver), Meeting()
    meeting.expected = 2
    got: list[httpx2.Response] = []
    async with (
        running(demo_app(slow, meeting)) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, slow, meeting)
        session = await endpoint.open("alice-1")

        async def ask() -> None:
            body = call("count", _meta={"progressToken": 1})
            got.append(await endpoint.post(body, session=session, token="alice-1"))

        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                while meeting.arrived == 0:
                    await anyio.lowlevel.checkpoint()
                pass_by(now)
                slow.is_slow = True
                await meeting.join()
                await slow.asked.wait()
                slow.is_slow = False
                cancelled = {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": 7},
                }
                await endpoint.post(cancelled, session=session, token="alice-1")
                slow.may_answer.set()

    assert "The request was cancelled." in message_of(got[0])["error"]["message"]


async def test_a_silent_call_that_is_kept_alive_ends_with_its_caller(
    endpoint: Endpoint, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment begins its stream, from a task of its own."""
    monkeypatch.setattr("mcp_adapter.transport.event_stream.KEEP_ALIVE_SECONDS", 0.0)
    endpoint.meeting.expected = 2
    session = await endpoint.open("alice-1")

    async def check(*_: object) -> None:
        raise unauthenticated(())

    monkeypatch.setattr(RequestResolver, "check", check)
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", -1.0)
    with anyio.fail_after(DEADLINE_SECONDS):
        response = await endpoint.post(call("meet"), session=session, token="alice-1")

    assert "ping" not in response.text
    assert "needs an access token" in response.text


# A blocked event loop.


@pytest.mark.parametrize(("seconds", "warnings"), [(0.3, 1), (0.05, 0)])
async def test_a_blocked_event_loop_is_logged_once_a_minute(
    resolver: MemoryResolver,
    now: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    warnings: int,
) -> None:
    """Not a slow authsvc: the timeout of a check ends that in time."""

    async def check(*_: object) -> None:
        now.advance(seconds)
        await anyio.sleep_forever()

    async def answer(request: Request) -> Response:
        return streamed(EVENT_STREAM)

    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(RequestResolver, "check", check)
    late = Late(answer)
    async with gated(late, resolver) as endpoint:
        for _ in range(2):
            late.asked, late.may_answer = anyio.Event(), anyio.Event()
            response, _ = await answered_late(late, endpoint, now, nothing, body=request("ping"))
            assert "SERVICE_UNAVAILABLE" in response.text

    lines = [it.getMessage() for it in caplog.records if "event loop" in it.getMessage()]
    assert len(lines) == warnings
    for line in lines:
        assert line.startswith("the event loop was blocked for 0.3 s or more")
        assert "asyncio.to_thread" in line


@pytest.mark.parametrize(("outcomes", "lag"), [([], 2.5), ([None], 0.5)])
async def test_the_lag_of_a_check_is_counted_from_when_it_was_due(
    now: Clock, monkeypatch: pytest.MonkeyPatch, outcomes: list[Exception | None], lag: float
) -> None:
    """The first begins 2 s late. The last, which may be another one, ends 0.5 s late."""
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)
    served = Served(outcomes)
    hung = served.check

    async def check() -> None:
        if served.checks == len(outcomes):
            now.advance(0.5)
        await hung()

    served.check = check  # type: ignore[method-assign]

    async def app(send: Send) -> None:
        await send(start())
        now.advance(2.0)
        await anyio.sleep_forever()

    await served.by(app)

    assert served.lags == [lag]


# What comes in one piece is finished.


class Passing(BaseHTTPMiddleware):
    """Makes pieces of every answer, as frameworks' middleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("POST", JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}})),
        ("POST", Response(status_code=202)),
        ("POST", Response("one piece", media_type="text/plain")),
        ("DELETE", Response(status_code=204)),
        ("DELETE", Response(status_code=200)),
    ],
)
@pytest.mark.parametrize("is_in_pieces", [False, True])
async def test_an_answer_in_one_piece_is_finished_and_not_checked(
    resolver: MemoryResolver, now: Clock, method: str, answer: Response, is_in_pieces: bool
) -> None:
    async def answering(request: Request) -> Response:
        return answer

    late = Late(answering)
    app: ASGIApp = Passing(late) if is_in_pieces else late
    body = request("ping") if method == "POST" else None
    async with gated(app, resolver) as endpoint:
        response, _ = await answered_late(late, endpoint, now, revoke, method=method, body=body)

    assert (response.status_code, response.content) == (answer.status_code, answer.body)
    assert [name for name, *_ in resolver.calls].count("resolve") == 1


# One response by itself.


def start(media_type: str = EVENT_STREAM) -> Message:
    headers = [(b"content-type", media_type.encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def piece(kind: str = "body", *, last: bool = False) -> Message:
    return {"type": f"http.response.{kind}", "body": EVENT, "more_body": not last}


@dataclass
class Served:
    """One response, and what has become of it.

    Attributes:
        outcomes: of the checks, in their order; None lets the stream go on.
        sent: to the client.
        refusals: by which the request was answered in the app's place.
        lags: of checks without an answer, in seconds.
    """

    outcomes: list[Exception | None]
    request_id: int | None = 7
    checks: int = 0
    sent: list[Message] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    async def check(self) -> None:
        """The next outcome; none when there are no more."""
        if self.checks == len(self.outcomes):
            await anyio.sleep_forever()
        outcome = self.outcomes[self.checks]
        self.checks += 1
        if outcome is not None:
            raise outcome

    async def by(self, app: Callable[[Send], Awaitable[None]]) -> None:
        """Have an app serve it, which only sends."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await app(send)

        async def send(message: Message) -> None:
            self.sent.append(message)

        async def refuse(refusal: Refusal) -> None:
            self.refusals.append(refusal)

        async def receive() -> Message:
            raise AssertionError

        watched = Watched(send, self.check, refuse, self.request_id, on_lag=self.lags.append)
        with anyio.fail_after(DEADLINE_SECONDS):
            await watched.serve(serve, {}, receive, watched.send)


async def test_a_caller_that_may_have_its_stream_is_checked_before_it_and_gets_it(
    now: Clock,
) -> None:
    served = Served([None])
    messages = [start(), piece(), piece(), piece(last=True)]
    checks: list[int] = []

    async def app(send: Send) -> None:
        pass_by(now)
        for message in messages:
            await send(message)
            checks.append(served.checks)

    await served.by(app)

    assert served.sent == messages
    assert checks == [1, 1, 1, 1]


async def test_a_stream_that_has_begun_late_is_watched(
    now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served([None, unauthenticated(())])
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def app(send: Send) -> None:
        pass_by(now)
        await send(start())
        await send(piece())
        await anyio.sleep_forever()

    await served.by(app)

    assert served.sent[:2] == [start(), piece()]
    assert b"access token" in served.sent[2]["body"]
    assert served.refusals == []


async def test_the_first_check_is_timed_from_the_admission(now: Clock) -> None:
    """And not from the start of the response, which may take half a second itself."""
    served = Served([unauthenticated(())])

    async def app(send: Send) -> None:
        now.advance(caller_checks.CHECK_SECONDS)
        await send(start())
        await send(piece())
        await anyio.sleep_forever()

    await served.by(app)

    assert served.checks == 1


@pytest.mark.parametrize("kind", ["body", "zerocopysend"])
async def test_json_in_pieces_ends_before_the_first(now: Clock, kind: str) -> None:
    served = Served([unauthenticated(())])

    async def app(send: Send) -> None:
        await send(start(JSON))
        assert served.sent == []
        pass_by(now)
        await send(piece(kind))
        pytest.fail("it was sent")

    await served.by(app)

    first, second = served.sent
    assert first == start(JSON)
    assert json.loads(second["body"])["id"] == 7
    assert not second["more_body"]


@pytest.mark.parametrize("status", [202, 204, 205, 304])
async def test_an_answer_without_content_is_finished_and_not_checked(
    now: Clock, status: int
) -> None:
    served = Served([unauthenticated(())], request_id=None)
    messages = [
        {"type": "http.response.start", "status": status, "headers": []},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]

    async def app(send: Send) -> None:
        pass_by(now)
        for message in messages:
            await send(message)

    await served.by(app)

    assert (served.sent, served.checks) == (messages, 0)


@pytest.mark.parametrize(
    "header",
    [
        (b"Content-Type", b"application/json"),
        (b"content-type", b"Application/JSON; charset=utf-8"),
        (b"content-type", b"text/plain"),
        (b"x-none", b"of content"),
    ],
)
@pytest.mark.parametrize("kind", ["body", "pathsend"])
async def test_one_message_without_a_length_is_finished_and_not_checked(
    now: Clock, header: tuple[bytes, bytes], kind: str
) -> None:
    served = Served([unauthenticated(())])
    messages = [{**start(), "headers": [header]}, piece(kind, last=True)]

    async def app(send: Send) -> None:
        pass_by(now)
        for message in messages:
            await send(message)

    await served.by(app)

    assert (served.sent, served.checks) == (messages, 0)


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type"])
async def test_an_event_stream_begins_before_its_first_event(now: Clock, name: bytes) -> None:
    served = Served([])
    beginning = {**start(), "headers": [(name, b"text/event-stream")]}

    async def app(send: Send) -> None:
        await send(beginning)
        assert served.sent == [beginning]
        await send(piece(last=True))

    await served.by(app)


async def test_json_in_pieces_that_goes_on_after_an_outage_is_a_stream(
    now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)
    served = Served([])

    async def app(send: Send) -> None:
        pass_by(now)
        await send(start(JSON))
        monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
        await send(piece())
        await anyio.sleep_forever()

    await served.by(app)

    end = {"type": "http.response.body", "body": b"", "more_body": False}
    assert served.sent == [start(JSON), piece(), end]


async def test_a_stream_whose_caller_cannot_be_checked_does_not_begin(
    now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_checks, "ANSWER_SECONDS", 0.0)
    served = Served([], request_id=None)

    async def app(send: Send) -> None:
        pass_by(now)
        await send(start())
        pytest.fail("it was sent")

    await served.by(app)

    assert served.sent == []
    assert [refusal.status for refusal in served.refusals] == [503]


async def test_a_task_that_cannot_be_stopped_sends_nothing(now: Clock) -> None:
    served = Served([unauthenticated(())])
    failures: list[OSError] = []

    async def app(send: Send) -> None:
        pass_by(now)
        with anyio.CancelScope(shield=True):
            try:
                await send(start())
            except OSError as error:
                failures.append(error)

    await served.by(app)

    assert len(served.sent) == 2  # the start and the error
    assert b"access token" in served.sent[1]["body"]


async def test_a_client_that_leaves_ends_the_check(now: Clock) -> None:
    served = Served([])
    checking = anyio.Event()
    served.check = lambda: _wait(checking)  # type: ignore[method-assign]

    async def app(send: Send) -> None:
        pass_by(now)
        await send(start())
        pytest.fail("it was sent")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.by, app)
        await checking.wait()
        tasks.cancel_scope.cancel()

    assert (served.sent, served.refusals) == ([], [])


async def _wait(checking: anyio.Event) -> None:
    checking.set()
    await anyio.sleep_forever()


async def test_an_app_that_ends_its_response_while_a_piece_waits_for_the_check_does_not_hang(
    now: Clock,
) -> None:
    served = Served([])
    failures: list[OSError] = []

    async def app(send: Send) -> None:
        async def send_piece() -> None:
            try:
                await send(piece())
            except OSError as error:
                failures.append(error)

        await send(start("application/json"))
        pass_by(now)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_piece)
            await anyio.lowlevel.checkpoint()
            await send(piece(last=True))

    await served.by(app)

    assert served.sent == [start("application/json"), piece(last=True)]
    assert len(failures) == 1


async def test_pieces_that_wait_for_the_check_keep_their_order(now: Clock) -> None:
    served = Served([None])
    pieces = [{**piece(), "body": b"%d" % number} for number in range(3)]

    async def app(send: Send) -> None:
        async def send_piece(message: Message) -> None:
            await send(message)

        await send(start("application/json"))
        pass_by(now)
        async with anyio.create_task_group() as tasks:
            for message in pieces:
                tasks.start_soon(send_piece, message)
        await send(piece(last=True))

    await served.by(app)

    assert served.sent == [start("application/json"), *pieces, piece(last=True)]
    assert served.checks == 1
