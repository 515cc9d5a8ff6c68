"""What authsvc cannot reach, may not ask for or has too much of: its log names the setting that
mends it, and no client sees that."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from grpc import aio

from authsvc.access.callers import Caller, Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.usage import REPORT_INTERVAL_SECONDS, Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret
from authsvc.domain.tokens import BearerToken
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.rpc.admission import Admission
from authsvc.rpc.open_calls import OpenCalls
from authsvc.rpc.request_reader import RequestReader
from authsvc.server.brokers import open_broker
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.issuers import issuer_of
from authsvc.server.running import running
from authsvc.tokens.discovery import discover
from authsvc.tokens.jwt import JwtVerifier
from authsvc.tokens.keys import KeyLoadError
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.clock import START, Clock
from tests.support.http import Answer, Site, serving_http
from tests.support.https import PrivateAuthority, serving_https
from tests.support.keys import jwks, signer
from tests.support.operators import clients, settings, write_tls
from tests.support.service import serving, settings_for
from tests.support.statuses import check_only_reason, status_of
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

KEY = signer("k1")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running_site:
        yield running_site


@pytest.fixture(autouse=True)
def _each_outage_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.rpc.errors._logged", {})


def _closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _metadata_of(issuer: str) -> Answer:
    return Answer(json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/jwks?hush"}).encode())


PLACE = "/.well-known/oauth-authorization-server"

KEY_CASES: dict[str, tuple[dict[str, Any], Callable[[Site], dict[str, Answer]], str, str]] = {
    "no metadata": ({"discover": True}, lambda _: {}, "metadata_url", f"{PLACE}: answered 404"),
    "metadata of another issuer": (
        {"discover": True},
        lambda site: {PLACE: _metadata_of(f"{site.url}/")},
        "issuer",
        "they differ in the slash at the end",
    ),
    "no keys at the URL": ({"jwks_url": "/keys"}, lambda _: {}, "jwks_url", "answered 404"),
    "no keys where the metadata says": (
        {"discover": True},
        lambda site: {PLACE: _metadata_of(site.url)},
        "jwks_url",
        "/jwks?...: answered 404; its URL is the jwks_uri of ",
    ),
    "keys that are none": (
        {"jwks_url": "/keys"},
        lambda _: {"/keys": Answer(b"<html>")},
        "jwks_url",
        "is not JSON",
    ),
}


@pytest.mark.parametrize("case", KEY_CASES.values(), ids=KEY_CASES)
async def test_keys_that_cannot_be_fetched(
    tmp_path: Path,
    idp: IdentityProvider,
    site: Site,
    caplog: pytest.LogCaptureFixture,
    case: tuple[dict[str, Any], Callable[[Site], dict[str, Answer]], str, str],
) -> None:
    table, answers, setting, says = case
    site.answers = answers(site)
    if "jwks_url" in table:
        table = {"jwks_url": site.url + table["jwks_url"]}
    issuers = [{"issuer": site.url, "algorithms": ["ES256"], **table}]
    log = await _logged_of(settings_for(tmp_path, idp, issuers=issuers), site.url, caplog)
    assert log.startswith(f"KEYS_UNAVAILABLE: no keys of {site.url}: ")
    assert says in log
    assert "hush" not in caplog.text
    assert log.endswith(f" (setting: issuers[{site.url}].{setting})")


async def test_an_issuer_that_cannot_be_connected_to(
    tmp_path: Path, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = _closed()
    issuers = [{"issuer": issuer, "algorithms": ["ES256"], "discover": True}]
    log = await _logged_of(settings_for(tmp_path, idp, issuers=issuers), issuer, caplog)
    assert "Connection refused" in log
    # A host that refuses is reachable, so that no proxy is missing.
    assert log.endswith(f" (setting: issuers[{issuer}].metadata_url)")


async def _logged_of(settings: Settings, issuer: str, caplog: pytest.LogCaptureFixture) -> str:
    """What is logged of a request whose token's keys are unavailable."""
    token = KEY.token(time.time(), iss=issuer)
    async with (
        serving(settings, time.time) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        request = pb.ResolveSessionRequest(token=token, resource=RESOURCE)
        status = await status_of(stub.ResolveSession(request))
    check_only_reason(status, Reason.KEYS_UNAVAILABLE)
    assert token not in caplog.text
    (line,) = (it.getMessage() for it in caplog.records if it.name == "authsvc.rpc.errors")
    return line


async def test_an_issuer_with_a_certificate_of_a_private_authority(tmp_path: Path) -> None:
    context = PrivateAuthority(tmp_path).server("localhost")
    async with serving_https(context) as https:
        with pytest.raises(FetchError) as caught:
            await Fetcher().get(https.url)
        with pytest.raises(KeyLoadError) as of_metadata:
            await discover(Fetcher(), https.url)
    assert caught.value.setting == of_metadata.value.setting == "ca_file"


async def test_an_issuer_at_a_private_address() -> None:
    with pytest.raises(FetchError) as caught:
        await Fetcher().get("https://10.0.0.1/")
    assert caught.value.setting == "allow_private_addresses"


async def test_keys_that_go_stale_name_the_setting_too(site: Site) -> None:

    site.answers["/keys"] = Answer(jwks(KEY))
    table = {"issuer": site.url, "algorithms": ["ES256"], "jwks_url": f"{site.url}/keys"}
    issuer = issuer_of(IssuerSettings.model_validate(table))
    verifier = JwtVerifier([issuer])
    token = BearerToken(KEY.token(START, iss=site.url, exp=START + 200_000))
    await issuer.keys.refresh(START)
    await verifier.verify(token, resource=RESOURCE, now=START)
    site.answers = {}
    await issuer.keys.refresh(START + 100_000)
    with pytest.raises(AuthError) as caught:
        verifier.cached(token, resource=RESOURCE, now=START + 100_000)
    assert caught.value.setting == f"issuers[{site.url}].jwks_url"


# Callers and limits


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    caplog.set_level("INFO")

    def of_type(event_type: str) -> list[dict[str, Any]]:
        found = (record.__dict__ for record in caplog.records)
        return [fields for fields in found if fields.get("event_type") == event_type]

    return of_type


async def test_denied_callers_of_every_rpc_see_the_reason_alone(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    events: Callable[[str], list[dict[str, Any]]],
) -> None:
    tls = write_tls(tmp_path / "tls")
    async with (
        running(settings(tmp_path, tls, idp, "memory"), clock=clock) as address,
        clients(address, tls) as site,
        site.stub("server") as raw,
        site.stub("stranger") as stranger,
    ):
        for calls in (raw, stranger):
            admin, metadata = calls.admin, calls.metadata
            for call in (
                admin.GetSession(pb.GetSessionRequest(session_id="s"), metadata=metadata),
                admin.ListSessions(pb.ListSessionsRequest(), metadata=metadata),
                admin.RevokeSessions(pb.RevokeSessionsRequest(), metadata=metadata),
                admin.GetServiceStatus(pb.GetServiceStatusRequest(), metadata=metadata),
                _first(admin.WatchSessions(pb.WatchSessionsRequest(), metadata=metadata)),
            ):
                check_only_reason(await status_of(call), Reason.CALLER_NOT_ALLOWED)
        with pytest.raises(AuthError) as caught:
            await site.resolve("s", idp.token(), resource="https://unregistered.example/mcp")
    assert (caught.value.detail, caught.value.setting) == ("", "")
    settings_of = [event["setting"] for event in events("CALLER_DENIED")]
    assert settings_of == [
        *["callers[server].admin"] * 5,
        *["callers"] * 5,
        "callers[server].resources",
    ]


async def _first(stream: AsyncIterable[object]) -> object:
    async for message in stream:
        return message
    return None


LIMITS: dict[str, tuple[dict[str, float], Reason]] = {
    "calls_per_second": ({"calls_burst": 1, "calls_per_second": 0.001}, Reason.OVERLOADED),
    "rejected_tokens_per_second": (
        {"rejected_tokens_burst": 1, "rejected_tokens_per_second": 0.001},
        Reason.OVERLOADED,
    ),
    "anonymous_sessions_per_second": (
        {"anonymous_sessions_burst": 1, "anonymous_sessions_per_second": 0.001},
        Reason.SESSION_LIMIT,
    ),
}


@pytest.mark.parametrize("setting", LIMITS)
async def test_a_limit_is_named_by_its_event(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    events: Callable[[str], list[dict[str, Any]]],
    setting: str,
) -> None:
    limits, reason = LIMITS[setting]
    token = idp.forged() if setting.startswith("rejected") else ""
    async with (
        serving(settings_for(tmp_path, idp, limits=limits), clock) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        first, second = (
            pb.ResolveSessionRequest(
                session_id=f"{name}-0123456789", token=token, resource=RESOURCE, create=True
            )
            for name in ("first", "second")
        )
        if token:
            await status_of(stub.ResolveSession(first))
        else:
            await stub.ResolveSession(first)
        check_only_reason(await status_of(stub.ResolveSession(second)), reason)
    (event,) = events("LIMIT_REACHED")
    assert (event["setting"], event["reason"]) == (f"limits.{setting}", reason.name)


async def test_calls_that_wait_for_their_client_name_the_limit(
    clock: Clock, events: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def silent() -> object:
        await anyio.sleep_forever()
        return None

    context: Any = SimpleNamespace(
        read=silent, peer=lambda: "ipv4:192.0.2.1:1", invocation_metadata=lambda: ()
    )
    usages = Usages(CallerLimits(), clock)
    admission = Admission(Callers([], local=Caller("local", frozenset({RESOURCE}))), usages)
    reader = RequestReader(admission, max_waiting=1, wait_seconds=0.0)
    open_calls, task = OpenCalls(1, admission), asyncio.ensure_future(silent())
    open_calls.begin(task, context)
    expected = [
        ("local", "limits.request_timeout_seconds"),
        ("", "limits.request_timeout_seconds"),
        ("", "limits.max_unauthenticated_calls"),
    ]
    with pytest.raises(AuthError) as of_caller:
        await reader.read(context)
    with pytest.raises(AuthError) as unidentified:
        await reader.read_open(context)
    clock.advance(REPORT_INTERVAL_SECONDS)
    with pytest.raises(AuthError) as unread:
        open_calls.begin(task, context)
    task.cancel()
    raised = [it.value for it in (of_caller, unidentified, unread)]
    assert {error.reason for error in raised} == {Reason.OVERLOADED}
    assert [error.setting for error in raised] == [setting for _, setting in expected]
    assert [(it["caller"], it["setting"]) for it in events("LIMIT_REACHED")] == expected


# Credentials

EXCHANGE_CASES: dict[str, tuple[Answer, Reason, str]] = {
    "another API": (
        Answer(b'{"error": "invalid_target"}', 400),
        Reason.CREDENTIALS_REFUSED,
        "audience",
    ),
    "scopes": (Answer(b'{"error": "invalid_scope"}', 400), Reason.CREDENTIALS_REFUSED, "scopes"),
    "client": (
        Answer(b'{"error": "invalid_client"}', 401),
        Reason.CREDENTIALS_UNAVAILABLE,
        "client_secret_file",
    ),
    "not the endpoint": (Answer(b"", 404), Reason.CREDENTIALS_UNAVAILABLE, "endpoint"),
    "no answer of one": (Answer(b"{}"), Reason.CREDENTIALS_UNAVAILABLE, "endpoint"),
    "an outage": (Answer(b"", 500), Reason.CREDENTIALS_UNAVAILABLE, ""),
}


@pytest.mark.parametrize("case", EXCHANGE_CASES.values(), ids=EXCHANGE_CASES)
async def test_an_exchange_that_fails_names_the_setting_when_cached_too(
    tmp_path: Path, idp: IdentityProvider, site: Site, case: tuple[Answer, Reason, str]
) -> None:
    site.answers["/token"], reason, name = case
    setting = f"credentials.exchange.{name}" if name else ""
    await _check_exchange(tmp_path, idp, f"{site.url}/token", reason, setting)


async def test_an_exchange_that_cannot_be_connected_to(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    setting = ""  # a host that refuses is reachable, so that no proxy is missing
    await _check_exchange(
        tmp_path, idp, f"{_closed()}/token", Reason.CREDENTIALS_UNAVAILABLE, setting
    )


async def _check_exchange(
    folder: Path, idp: IdentityProvider, endpoint: str, reason: Reason, setting: str
) -> None:
    (folder / "client").write_text("the-clients-secret")
    table = {
        "issuers": (idp.issuer,),
        "endpoint": endpoint,
        "client_id": "authsvc",
        "client_secret_file": folder / "client",
    }
    alice = Principal(idp.issuer, "alice", START + 600)
    async with open_broker(settings_for(folder, idp, credentials={"exchange": [table]})) as broker:
        assert broker is not None
        for _ in range(2):
            with pytest.raises(AuthError) as caught:
                await broker.issue(alice, token=Secret("a.b.c"), resource=OTHER_RESOURCE, now=START)
            assert (caught.value.reason, caught.value.setting) == (reason, setting)
            # As the log has it.
            assert (f" (setting: {setting})" in f"{caught.value}") is bool(setting)
