"""Sessions of aiobotocore and boto3 that sign as the caller of a request, and as nobody else."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiobotocore.config import AioConfig
from botocore.loaders import JSONFileLoader, Loader
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Principal, Secret
from authsvc.net.system_bundle import system_bundle_file
from mcp_adapter import Caller, NoCredentialsError, SessionGate, aws, caller
from mcp_adapter.aws import boto3_session_for, session_for
from mcp_adapter.testing import FakeResolver, as_caller
from tests.mcp_adapter.gate.direct import posted
from tests.mcp_adapter.harness import MODERN, RESOURCE, call
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, Site, serving_http

pytestmark = pytest.mark.anyio

IDENTITY = b"""<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
THROTTLED = b"<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"

BEARER = BearerCredentials(Secret("for-the-api"), "Bearer", expire_time=2e9)
FOREIGN = "AKIAFROMTHEENVIRONMENT"

Issued = AwsCredentials | BearerCredentials | AuthError | None


def keys(number: int, region: str = "eu-west-3") -> AwsCredentials:
    return AwsCredentials(
        f"ASIACALLER{number}", Secret(f"secret-{number}"), Secret(f"st-{number}"), region, 2e9
    )


class Issuer:
    """Issues other keys at each time, until ``error``.

    Attributes:
        asked: what was asked for, in order.
        error: what is issued in place of keys.
        errors_after: how many keys are issued before it.
    """

    def __init__(self, error: Issued = None, errors_after: int = sys.maxsize) -> None:
        self.asked: list[CredentialRequest] = []
        self.error = error
        self.errors_after = errors_after

    def __call__(self, wanted: CredentialRequest) -> Issued:
        self.asked.append(wanted)
        number = len(self.asked)
        return keys(number) if number <= self.errors_after else self.error


def caller_of(issuer: Issuer, *buckets: str) -> Caller:
    who = Principal("https://idp.example", "ada", 2e9, buckets=buckets)
    found = caller(as_caller(who, named={"reports": issuer}))
    assert isinstance(found, Caller)
    return found


@pytest.fixture
def site() -> Iterator[Site]:
    """Answers as STS does."""
    with serving_http() as site:
        site.answers["/"] = Answer(IDENTITY)
        yield site


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that botocore takes from its environment is somebody else's."""
    (tmp_path / "config").write_text(
        f"[default]\nregion = us-west-2\naws_access_key_id = {FOREIGN}\naws_secret_access_key = s\n"
    )
    for name, value in {
        "AWS_ACCESS_KEY_ID": FOREIGN,
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "config"),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9/",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9/",
        "AWS_BEARER_TOKEN_BEDROCK": FOREIGN,
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "AWS_MAX_ATTEMPTS": "3",
    }.items():
        monkeypatch.setenv(name, value)


Ask = Callable[[Caller, Site, int], Awaitable[None]]
"""Asks STS, with a session of the caller's, so many times."""


async def by_aiobotocore(who: Caller, site: Site, times: int = 1) -> None:
    session = await session_for(who, "reports")
    async with session.create_client("sts", endpoint_url=site.url) as client:
        for _ in range(times):
            await client.get_caller_identity()


async def by_boto3(who: Caller, site: Site, times: int = 1) -> None:
    def work() -> None:
        client = boto3_session_for(who, "reports").client("sts", endpoint_url=site.url)
        try:
            for _ in range(times):
                client.get_caller_identity()
        finally:
            client.close()

    await anyio.to_thread.run_sync(work)


BOTH = pytest.mark.parametrize("ask", [by_aiobotocore, by_boto3])


def signers(site: Site) -> list[tuple[str, str, str]]:
    """The key, the region and the session token of each request."""
    found = []
    for headers, _ in site.posted:
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/", headers["Authorization"])
        assert scope is not None
        found.append((scope[1], scope[2], headers.get("X-Amz-Security-Token", "")))
    return found


@BOTH
async def test_each_request_is_signed_with_what_is_issued_then(ask: Ask, site: Site) -> None:
    issuer = Issuer()
    await ask(caller_of(issuer), site, 3)
    # The first were for the session, which has their region.
    assert signers(site) == [(f"ASIACALLER{it}", "eu-west-3", f"st-{it}") for it in (2, 3, 4)]
    assert issuer.asked == [CredentialRequest("reports")] * 4


@BOTH
async def test_models_of_the_users_account_are_not_read(
    ask: Ask, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("endpoints.json", "partitions.json", "sts/2011-06-15/service-2.json"):
        (tmp_path / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / name).write_text("{}")
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path / "models"))
    for name in ("_MODELS", "_MODELS_OF_THREADS"):  # which have parsed nothing yet
        monkeypatch.setattr(aws, name, aws._Models())
    await ask(caller_of(Issuer()), site, 1)
    assert len(site.posted) == 1


@BOTH
async def test_a_model_is_parsed_once_for_all_sessions(
    ask: Ask, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(caller_of(Issuer()), site, 1)
    read: list[str] = []
    load_file = JSONFileLoader.load_file

    def reading(self: JSONFileLoader, file_path: str) -> object:
        read.append(file_path)
        return load_file(self, file_path)

    monkeypatch.setattr(JSONFileLoader, "load_file", reading)
    await ask(caller_of(Issuer()), site, 1)
    assert (read, len(site.posted)) == ([], 2)


async def test_sessions_of_threads_share_models_and_find_resources() -> None:
    def paths() -> list[str]:
        session = boto3_session_for(caller_of(Issuer()), "reports")
        assert "s3" in session.get_available_resources()
        session.client("sts").close()
        models = session._session.get_component("data_loader")
        return list(models.search_paths)

    async def work() -> None:
        found.append(await anyio.to_thread.run_sync(paths))

    found: list[list[str]] = []
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(work)
    assert [len(it) for it in found] == [2, 2, 2, 2]


@BOTH
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (AuthError(Reason.CREDENTIALS_REFUSED), AuthError),
        (None, NoCredentialsError),
        (BEARER, TypeError),
    ],
)
@pytest.mark.parametrize("issued", [0, 1, 2])
async def test_nothing_else_is_used_where_none_are_issued(
    ask: Ask, error: Issued, raised: type[Exception], issued: int, site: Site
) -> None:
    with pytest.raises(raised) as caught:
        await ask(caller_of(Issuer(error, errors_after=issued)), site, 3)
    assert "for-the-api" not in str(caught.value)
    # The first for the session, each other for a request.
    assert [key for key, *_ in signers(site)] == ["ASIACALLER2"][: max(issued - 1, 0)]


@BOTH
async def test_a_repetition_is_signed_anew_or_is_not_sent(ask: Ask, site: Site) -> None:
    site.answers["/"] = Answer(THROTTLED, status=400)
    with pytest.raises(AuthError):
        await ask(caller_of(Issuer(AuthError(Reason.TOKEN_EXPIRED), errors_after=3)), site, 1)
    assert [key for key, *_ in signers(site)] == ["ASIACALLER2", "ASIACALLER3"]


@BOTH
async def test_a_session_ends_with_the_request_of_its_caller(ask: Ask, site: Site) -> None:
    """In tasks and threads that go on, too."""
    resolver = FakeResolver()
    token = resolver.issue("ada", named={"reports": keys(1)})
    callers: list[Caller] = []
    reasons: list[Reason] = []
    sessions: list[Any] = []

    async def later() -> None:
        with pytest.raises(AuthError) as of_session:
            await again(sessions[0])
        with pytest.raises(AuthError) as of_caller:
            await ask(callers[0], site, 1)
        reasons.extend(it.value.reason for it in (of_session, of_caller))

    async def again(session: Any) -> None:  # noqa: ANN401 - of either library
        if ask is by_aiobotocore:
            async with session.create_client("sts", endpoint_url=site.url) as opened:
                await opened.get_caller_identity()
        else:
            client = session.client("sts", endpoint_url=site.url)
            await anyio.to_thread.run_sync(client.get_caller_identity)

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
        request = Request(scope)
        who = caller(request)
        callers.append(who)
        await ask(who, site, 1)
        sessions.append(
            await session_for(who, "reports")
            if ask is by_aiobotocore
            else await anyio.to_thread.run_sync(lambda: boto3_session_for(who, "reports"))
        )
        await again(sessions[0])
        response: Response = JSONResponse(
            {"jsonrpc": "2.0", "id": 1, "result": {}}, background=BackgroundTask(later)
        )
        await response(scope, receive, send)

    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, requirement=lambda *_: None)
    async with resolver:
        sent = await posted(gate, call("x"), token=token, version=MODERN)
    assert sent[0]["status"] == 200, sent

    assert len(site.posted) == 2
    assert reasons == [Reason.CREDENTIALS_REFUSED] * 2


@BOTH
async def test_a_bearer_token_of_the_environment_signs_nothing(ask: Ask, site: Site) -> None:
    """Botocore prefers it for this service (``AWS_BEARER_TOKEN_BEDROCK``)."""
    site.answers["/model/m/invoke"] = Answer(b"{}")
    who = caller_of(Issuer())
    service, arguments = "bedrock-runtime", {"modelId": "m", "body": b"{}"}
    if ask is by_aiobotocore:
        session = await session_for(who, "reports")
        async with session.create_client("bedrock-runtime", endpoint_url=site.url) as client:
            await client.invoke_model(**arguments)
    else:

        def work() -> None:
            made = boto3_session_for(who, "reports").client(service, endpoint_url=site.url)
            made.invoke_model(**arguments)
            made.close()

        await anyio.to_thread.run_sync(work)
    assert signers(site) == [("ASIACALLER2", "eu-west-3", "st-2")]
    assert FOREIGN not in str(site.posted)


async def test_buckets_are_asked_for(site: Site) -> None:
    issuer = Issuer()
    who = caller_of(issuer, "alpha", "beta")
    await session_for(who, "reports", buckets=["alpha"])
    await anyio.to_thread.run_sync(lambda: boto3_session_for(who, "reports", buckets=["beta"]))
    assert [it.buckets for it in issuer.asked] == [("alpha",), ("beta",)]
    with pytest.raises(AuthError):
        await session_for(who, "reports", buckets=["gamma"])
    with pytest.raises(TypeError, match="buckets"):
        await session_for(who, "reports", buckets="alpha")


async def test_only_a_caller_has_sessions() -> None:
    who: Any = Principal("https://idp.example", "ada", 2e9)
    with pytest.raises(TypeError, match="caller"):
        await session_for(who)
    with pytest.raises(TypeError, match="caller"):
        boto3_session_for(who)


async def test_boto3_does_not_wait_on_its_own_event_loop(site: Site) -> None:
    who = caller_of(Issuer())
    with pytest.raises(RuntimeError, match="use session_for"):
        boto3_session_for(who, "reports")
    session = await anyio.to_thread.run_sync(lambda: boto3_session_for(who, "reports"))
    client = session.client("sts", endpoint_url=site.url)
    with pytest.raises(RuntimeError, match="use session_for"):
        client.get_caller_identity()
    assert not site.posted


async def test_boto3_in_a_thread_of_ones_own_is_given_the_loop(site: Site) -> None:
    who = caller_of(Issuer())
    with pytest.raises(RuntimeError, match="argument loop"):
        await asyncio.to_thread(boto3_session_for, who, "reports")
    loop = asyncio.get_running_loop()
    session = await asyncio.to_thread(boto3_session_for, who, "reports", loop=loop)
    client = session.client("sts", endpoint_url=site.url)
    await asyncio.to_thread(client.get_caller_identity)
    assert [key for key, *_ in signers(site)] == ["ASIACALLER2"]


async def test_boto3_does_not_outlive_the_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.to_thread(boto3_session_for, caller_of(Issuer()), "reports", loop=loop)


def test_a_loop_that_hangs_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_adapter.aws.WAIT_SECONDS", 0.01)
    loop = asyncio.new_event_loop()  # nobody runs it
    try:
        with pytest.raises(AuthError) as caught:
            boto3_session_for(caller_of(Issuer()), "reports", loop=loop)
        assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
    finally:
        # What was asked for is cancelled there.
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def test_without_boto3_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ImportError, match="needs boto3") as caught:
        await anyio.to_thread.run_sync(lambda: boto3_session_for(caller_of(Issuer()), "reports"))
    assert caught.value.name == "boto3"


@BOTH
async def test_nothing_shows_a_secret(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    who = caller_of(Issuer())
    if ask is by_aiobotocore:
        session: Any = await session_for(who, "reports")
        credentials = await session.get_credentials()
    else:
        session = await anyio.to_thread.run_sync(lambda: boto3_session_for(who, "reports"))
        credentials = session.get_credentials()
    for it in (session, credentials, credentials._source):
        assert "secret-" not in f"{it!r} {vars(it) if hasattr(it, '__dict__') else ''}"
    assert "secret-" not in caplog.text


async def test_many_requests_at_once(site: Site) -> None:
    issuer = Issuer()
    session = await session_for(caller_of(issuer), "reports")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async with session.create_client("sts", endpoint_url=site.url) as client:
            await asyncio.gather(*(client.get_caller_identity() for _ in range(20)))
    assert {key for key, *_ in signers(site)} == {f"ASIACALLER{it}" for it in range(2, 22)}


async def test_clients_reach_aws_itself_directly() -> None:
    """By no endpoint, proxy or authorities of the environment; those that a tool gives count."""
    who = caller_of(Issuer())
    blocking = await anyio.to_thread.run_sync(lambda: boto3_session_for(who, "reports"))
    made = blocking.client("s3")
    session: Any = await session_for(who, "reports")
    async with session.create_client("s3") as client:
        for it in (client, made):
            assert it.meta.endpoint_url == "https://s3.eu-west-3.amazonaws.com"
            assert it.meta.config.proxies == {}
            assert "total_max_attempts" not in it.meta.config.retries  # AWS_MAX_ATTEMPTS
    made.close()
    for of in (session, blocking._session):
        assert of.get_auth_token(signing_name="bedrock") is None
    assert blocking._session.get_config_variable("ca_bundle") == str(system_bundle_file() or True)
    config = AioConfig(proxies={"https": "http://proxy.example:1"})
    async with session.create_client("s3", region_name="eu-west-2", config=config) as client:
        assert client.meta.region_name == "eu-west-2"
        assert client.meta.config.proxies == {"https": "http://proxy.example:1"}
        assert client.meta.endpoint_url == "https://s3.eu-west-2.amazonaws.com"
