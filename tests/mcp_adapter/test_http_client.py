"""``api_client`` sends the caller's token to one API, and to nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Secret
from mcp_adapter import Caller, NoCredentialsError, api_client, caller
from mcp_adapter.testing import as_caller
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


def token(number: int) -> BearerCredentials:
    return BearerCredentials(Secret(f"token-{number}-of-the-api"), "Bearer", expire_time=2e9)


@dataclass
class Issued:
    """Issues token 1, and the next one in place of each that is rejected, up to ``last``.

    Attributes:
        asked: what was asked for.
        number: of the token that is issued now.
        error: in place of another token; None for none.
    """

    last: int = 9
    number: int = 1
    asked: list[CredentialRequest] = field(default_factory=list)
    error: AuthError | None = None

    def __call__(self, wanted: CredentialRequest) -> BearerCredentials | AuthError:
        self.asked.append(wanted)
        if wanted.rejected and self.error is not None:
            return self.error
        if wanted.rejected == _digest(self.number) and self.number < self.last:
            self.number += 1
        return token(self.number)

    @property
    def renewals(self) -> int:
        return self.number - 1


def _digest(number: int) -> bytes:
    return hashlib.sha256(token(number).access_token.reveal().encode()).digest()


@dataclass
class Api:
    """An API that takes some tokens, and keeps what it was sent.

    Attributes:
        valid: the numbers of the tokens that it takes.
        seen: method, path, Authorization header and body of each request.
        elsewhere: where ``/v1/elsewhere`` redirects to.
        status: of the answer to another token.
        barrier: holds requests with the first token until as many are here.
    """

    valid: set[int]
    seen: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    elsewhere: str = ""
    status: int = 401
    barrier: asyncio.Barrier | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        given = request.headers.get("authorization", "")
        self.seen.append((request.method, request.url.path, given, await request.body()))
        if self.barrier is not None and given == f"Bearer {token(1).access_token.reveal()}":
            await self.barrier.wait()
        response: Response
        if request.url.path == "/v1/elsewhere":
            response = RedirectResponse(self.elsewhere)
        elif given in {f"Bearer {token(it).access_token.reveal()}" for it in self.valid}:
            response = JSONResponse({"ok": True})
        else:
            response = JSONResponse({"error": "invalid_token"}, status_code=self.status)
        await response(scope, receive, send)

    @property
    def tokens(self) -> list[str]:
        """The numbers of the tokens that it was sent."""
        return [given.split("-")[1] if given else "" for _, _, given, _ in self.seen]


def caller_of(issued: Callable[[CredentialRequest], Any]) -> Caller:
    return caller(as_caller("ada", named={"api": issued}))


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:  # noqa: ANN401 - an ASGI app
    """The app, over real HTTP, without a lifespan."""

    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    async with running(with_lifespan) as url:
        yield url


@pytest.fixture(autouse=True)
def no_token_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert "of-the-api" not in caplog.text


async def test_a_request_has_the_callers_token() -> None:
    issued, api = Issued(), Api({1})
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=f"{url}/v1") as http,
    ):
        answer = await http.get("/repos", headers={"Authorization": "Bearer other"})
        assert answer.json() == {"ok": True}
        assert answer.request.headers["authorization"] == "Bearer other"
        assert "of-the-api" not in repr(vars(http)) + repr(http) + repr(answer.request.headers)
        async with http.stream("POST", f"{url}/v1/absolute", content=b"x") as streamed:
            assert streamed.status_code == 200
    given = f"Bearer {token(1).access_token.reveal()}"
    assert api.seen == [
        ("GET", "/v1/repos", given, b""),
        ("POST", "/v1/absolute", given, b"x"),
    ]
    assert issued.asked == [CredentialRequest("api")] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/v1",
        "https://127.0.0.1/v1",
        "http://evil.example/",
        "http://127.0.0.1@evil.example/",
        "ws://127.0.0.1/",
    ],
)
async def test_nothing_is_sent_elsewhere(url: str) -> None:
    issued, api = Issued(), Api({1})
    async with (
        served(api) as base,
        api_client(caller_of(issued), "api", base_url=base) as http,
    ):
        with pytest.raises((ValueError, httpx2.UnsupportedProtocol)):
            await http.get(url)
        with pytest.raises((ValueError, httpx2.UnsupportedProtocol)):
            await http.send(httpx2.Request("GET", url))
    assert (api.seen, issued.asked) == ([], [])


async def test_what_looks_like_another_host_is_a_path_of_the_api() -> None:
    api = Api({1})
    async with served(api) as url, api_client(caller_of(Issued()), "api", base_url=url) as http:
        await http.get("//evil.example/x")
    assert [path for _, path, _, _ in api.seen] == ["/x"]


async def test_a_redirect_elsewhere_gets_no_token() -> None:
    api, other = Api({1}), Api(set(), status=200)
    async with (
        served(api) as url,
        served(other) as elsewhere,
        api_client(caller_of(Issued()), "api", base_url=f"{url}/v1") as http,
    ):
        api.elsewhere = f"{elsewhere}/there"
        assert (await http.get("/elsewhere")).status_code == 307
        assert (await http.get("/elsewhere", follow_redirects=True)).status_code == 200
        api.elsewhere = f"{url}/v1/here"
        assert (await http.get("/elsewhere", follow_redirects=True)).json() == {"ok": True}
    assert [given for _, _, given, _ in other.seen] == [""]
    assert api.tokens == ["1"] * 4


async def test_a_redirect_that_comes_back_from_elsewhere_gets_no_token() -> None:
    api, other = Api({1}), Api(set())
    async with (
        served(api) as url,
        served(other) as elsewhere,
        api_client(caller_of(Issued()), "api", base_url=f"{url}/v1") as http,
    ):
        api.elsewhere = f"{elsewhere}/v1/elsewhere"
        other.elsewhere = f"{url}/v1/admin"
        assert (await http.post("/elsewhere", follow_redirects=True)).status_code == 401
        assert (await http.get("/x")).json() == {"ok": True}
    assert [(path, given[:6]) for _, path, given, _ in api.seen] == [
        ("/v1/elsewhere", "Bearer"),
        ("/v1/admin", ""),
        ("/v1/x", "Bearer"),
    ]


class Recording(httpx2.AsyncBaseTransport):
    """Keeps the requests that it is to send."""

    def __init__(self) -> None:
        self.sent: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        return httpx2.Response(200)


async def test_a_request_cannot_name_another_host_for_the_token_nor_show_it() -> None:
    transport, who = Recording(), caller_of(Issued())
    extensions = {"trace": print, "sni_hostname": "b.example", "target": b"http://b.example/"}
    async with api_client(
        who, "api", base_url="https://a.example:8443", transport=transport
    ) as http:
        await http.get("/x", headers={"host": "b.example"}, extensions=extensions, timeout=7)
    (sent,) = transport.sent
    assert sent.headers.get_list("host") == ["a.example:8443"]
    assert sent.extensions == {"timeout": httpx2.Timeout(7).as_dict()}


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("Bearer", "of-the-api\n"),
        ("Bearer", "of-the-api\r\nx: y"),
        ("Bearer", "of the-api"),
        ("Bearer", "of-the-api-\u00e9"),
        ("Bearer", ""),
        ("Bearer of-the-api\n", "x"),
    ],
)
async def test_a_token_that_no_header_can_have_is_not_quoted(kind: str, secret: str) -> None:
    issued = BearerCredentials(Secret(secret), kind, expire_time=2e9)
    transport = Recording()
    async with api_client(
        caller_of(lambda wanted: issued), "api", base_url="https://a.example", transport=transport
    ) as http:
        with pytest.raises(ValueError, match="no header can have") as caught:
            await http.get("/x")
    assert "of-the" not in str(caught.value)
    assert transport.sent == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_rejected_token_is_renewed_once(method: str) -> None:
    issued, api = Issued(), Api({2})
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):
        body = b"body" if method == "POST" else b""
        assert (await http.request(method, "/x", content=body)).json() == {"ok": True}
        assert (await http.request(method, "/x", content=body)).json() == {"ok": True}
    assert api.tokens == ["1", "2", "2"]
    assert {sent for _, _, _, sent in api.seen} == {body}
    # From then on it says which was rejected: another replica may have it cached.
    assert [it.rejected for it in issued.asked] == [b"", _digest(1), _digest(1)]


async def test_a_second_rejection_is_returned() -> None:
    issued, api = Issued(), Api({3})
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):
        assert (await http.get("/x")).status_code == 401
        assert (await http.get("/x")).json() == {"ok": True}
    assert api.tokens == ["1", "2", "2", "3"]


async def test_where_there_is_no_other_token_the_answer_is_returned() -> None:
    issued, api = Issued(last=1), Api(set())
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):
        assert (await http.get("/x")).json() == {"error": "invalid_token"}
    assert api.tokens == ["1"]


@pytest.mark.parametrize("status", [400, 403, 429, 500])
async def test_other_statuses_are_returned(status: int) -> None:
    issued, api = Issued(), Api(set(), status=status)
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):
        assert (await http.get("/x")).status_code == status
    assert (api.tokens, len(issued.asked)) == (["1"], 1)


async def test_a_stream_is_not_sent_again() -> None:
    issued, api = Issued(), Api({2})

    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):
        assert (await http.post("/x", content=body())).status_code == 401
        assert (await http.post("/x", content=body())).json() == {"ok": True}
    assert api.tokens == ["1", "2"]


async def test_concurrent_requests_share_a_renewal() -> None:
    issued, api = Issued(), Api({2}, barrier=asyncio.Barrier(10))
    answers: list[int] = []
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):

        async def ask() -> None:
            answers.append((await http.get("/x")).status_code)

        with anyio.fail_after(TIMEOUT_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(ask)
    assert answers == [200] * 10
    assert issued.renewals == 1
    assert len([it for it in issued.asked if it.rejected]) == 1


async def test_a_renewal_that_is_refused_is_an_error_for_all_that_share_it() -> None:
    refused = AuthError(Reason.CREDENTIALS_REFUSED)
    issued, api = Issued(error=refused), Api(set(), barrier=asyncio.Barrier(5))
    failed: list[AuthError] = []
    async with (
        served(api) as url,
        api_client(caller_of(issued), "api", base_url=url) as http,
    ):

        async def ask() -> None:
            with pytest.raises(AuthError) as caught:
                await http.get("/x")
            failed.append(caught.value)

        with anyio.fail_after(TIMEOUT_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(ask)
    assert [it.reason for it in failed] == [Reason.CREDENTIALS_REFUSED] * 5
    assert len({id(it) for it in failed}) == 5
    assert len([it for it in issued.asked if it.rejected]) == 1


async def test_a_caller_without_a_token_for_the_api_sends_nothing() -> None:
    aws = AwsCredentials("AKIA", Secret("secret"), None, "eu-west-1", expire_time=2e9)
    who = caller(
        as_caller("ada", named={"aws": aws, "refused": AuthError(Reason.KEYS_UNAVAILABLE)})
    )
    api = Api({1})
    async with served(api) as url:
        for name, error in (
            ("aws", TypeError),
            ("refused", AuthError),
            ("none", NoCredentialsError),
        ):
            async with api_client(who, name, base_url=url) as http:
                with pytest.raises(error):
                    await http.get("/x")
    assert api.seen == []


class Failing(httpx2.AsyncBaseTransport):
    """Fails, with the headers in the variables of its frame and of the cause's."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = request.headers.raw
        try:
            raise OSError(f"after {len(headers)} headers")
        except OSError as error:
            raise httpx2.ReadError("closed") from error


class Silent(httpx2.AsyncBaseTransport):
    """Does not answer, with the headers in the variables of its frame."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = request.headers.raw
        self.reached.set()
        await anyio.sleep_forever()
        raise OSError(f"after {len(headers)} headers")


async def test_a_tool_that_is_cancelled_has_no_token_in_its_error() -> None:
    who, transport = caller_of(Issued()), Silent()
    async with api_client(who, "api", base_url="https://a.example", transport=transport) as http:
        asking = asyncio.create_task(http.get("/x"))
        await asyncio.wait_for(transport.reached.wait(), TIMEOUT_SECONDS)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await asking
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "of-the-api" not in "".join(shown.format())


async def test_no_error_has_the_token() -> None:
    who = caller_of(Issued())
    async with api_client(who, "api", base_url="https://a.example", transport=Failing()) as http:
        with pytest.raises(httpx2.ReadError, match="closed") as caught:
            await http.get("/x")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "of-the-api" not in "".join(shown.format())
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "authorization" not in caught.value.request.headers


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"caller": "ada"}, TypeError, "caller"),
        ({"name": 1}, TypeError, "name"),
        ({"base_url": b"https://api.example"}, TypeError, "base_url"),
        ({"base_url": "http://api.example"}, ValueError, "base_url is https"),
        ({"base_url": "api.example"}, ValueError, "base_url is not scheme"),
        ({"base_url": "https://user@api.example"}, ValueError, "base_url has no user"),
        ({"base_url": "https://api.example?x=1"}, ValueError, "base_url has no user"),
        ({"base_url": "https://api.example#x"}, ValueError, "base_url has no user"),
        ({"transport": "http"}, TypeError, "transport"),
        ({"timeout": 0}, ValueError, "timeout"),
    ],
)
async def test_arguments_are_checked(
    changed: dict[str, Any], error: type[Exception], text: str
) -> None:
    given: dict[str, Any] = {
        "caller": caller_of(Issued()),
        "name": "api",
        "base_url": "https://api.example",
        **changed,
    }
    with pytest.raises(error, match=text):
        api_client(given.pop("caller"), given.pop("name"), **given)
