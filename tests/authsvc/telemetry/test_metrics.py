"""Metrics over HTTP after known requests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from authsvc.common.settings import ConfigError
from authsvc.credentials.routing import CredentialRouter
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret
from authsvc.domain.service_status import StoreSpace
from authsvc.server.config import CredentialSettings
from authsvc.server.metrics import metrics_of
from authsvc.stores import SessionStore
from authsvc.stores.memory import MemoryStore
from authsvc.telemetry.exported_traces import ExportedTraces
from authsvc.telemetry.metrics import Metrics, ServiceCollector
from authsvc.telemetry.observed import ObservedBroker
from authsvc.telemetry.spans import NoTracing, Tracing
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.processes import ROOT
from tests.support.scraping import scrape
from tests.support.service import Service, serving, settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

BOUND_SECONDS = TIMEOUT_SECONDS


@asynccontextmanager
async def measured(
    folder: Path, caplog: pytest.LogCaptureFixture, *, streams: bool = True, name: str = ""
) -> AsyncIterator[tuple[Service, IdentityProvider, str]]:
    """A service, who issues its tokens, and where its metrics are.

    With a name, it has credentials of that name for readers, too.
    """
    clock = Clock()
    idp = IdentityProvider(clock)
    settings = settings_for(folder, idp, metrics={"listen": "127.0.0.1:0"})
    if name:
        unnamed = settings.credentials.static
        named = [it.model_copy(update={"name": name, "resources": (RESOURCE,)}) for it in unnamed]
        credentials = CredentialSettings(static=(*unnamed, *named))
        settings = settings.model_copy(update={"credentials": credentials})
    with caplog.at_level("INFO"):
        async with serving(settings, clock, streams=streams) as service:
            told = [item for item in caplog.records if item.getMessage().startswith("metrics at")]
            yield service, idp, str(told[-1].__dict__["address"])


@pytest.mark.parametrize(("via", "other"), [("unary", "stream"), ("stream", "unary")])
async def test_counts_are_the_same_for_every_rpc(
    via: str, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with measured(tmp_path, caplog, streams=via == "stream") as (service, idp, address):
        token, renewed = idp.token(iat=idp.clock() - 1), idp.token()
        created = await service.client.create(token, resource=RESOURCE)
        assert created.session is not None
        session_id = created.session.id
        for presented in (token, token, token, renewed):
            await service.client.resolve(session_id, presented, resource=RESOURCE)
        for bad in ("not-a-token", idp.token(aud="https://elsewhere.example.com/mcp")):
            with pytest.raises(AuthError):
                await service.client.resolve(session_id, bad, resource=RESOURCE)
        scraped = await scrape(address)

    def resolves(result: str) -> float:
        return scraped.value("authsvc_resolves_total", result=result, via=via)

    assert resolves("reused") == 3
    assert resolves("reauthenticated") == 1
    assert resolves("TOKEN_MALFORMED") == 1
    assert resolves("TOKEN_AUDIENCE_MISMATCH") == 1
    assert scraped.value("authsvc_resolves_total", result="created", via="create") == 1
    assert scraped.value("authsvc_resolves_total", result="reused", via=other) == 0
    cached = scraped.value("authsvc_resolves_cached_total", via=via)
    decided = scraped.value("authsvc_resolve_duration_seconds_count", via=via)
    assert cached == 2
    assert cached + decided == 6
    assert scraped.value("authsvc_resolves_in_flight", via=via) == 0
    assert scraped.value("authsvc_store_operation_duration_seconds_count", operation="put") == 2
    assert scraped.value("authsvc_token_checks_total", result="ok") == 2
    assert scraped.value("authsvc_token_checks_total", result="TOKEN_MALFORMED") == 1
    assert scraped.value("authsvc_token_check_duration_seconds_count") == 4
    issued = scraped.value("authsvc_credentials_requests_total", result="ok", name="default")
    timed = scraped.value("authsvc_credentials_duration_seconds_count", name="default")
    assert timed == issued > 0
    assert scraped.value("authsvc_ready") == 1
    assert scraped.value("authsvc_audit_calls_total", result="dropped") == 0
    assert scraped.value("authsvc_issuer_state", issuer=idp.issuer, state="ready") == 1
    assert scraped.value("authsvc_signing_keys", issuer=idp.issuer) == 1
    assert scraped.value("authsvc_signing_keys_skipped", issuer=idp.issuer) == 0
    assert (
        scraped.value(
            "authsvc_security_events_total",
            event="TOKEN_REJECTED",
            reason="TOKEN_MALFORMED",
            caller="local",
        )
        == 1
    )


async def test_credentials_are_counted_by_the_names_of_the_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with measured(tmp_path, caplog, name="api") as (service, idp, address):
        token = idp.token()
        selection = [CredentialRequest(name) for name in ("", "api", "mallory-1", "mallory-2")]
        got = await service.client.create(token, resource=RESOURCE, credentials=selection)
        assert got.credentials_of("api") is not None
        scraped = await scrape(address)
    requests = "authsvc_credentials_requests_total"
    assert scraped.value(requests, result="ok", name="api") == 1
    assert scraped.value(requests, result="ok", name="default") == 1
    assert scraped.value(requests, result="ARGUMENT_INVALID", name="unknown") == 2
    duration = "authsvc_credentials_duration_seconds_count"
    assert scraped.value(duration, name="unknown") == 2


@pytest.mark.parametrize("tracing", [NoTracing(), ExportedTraces(TracerProvider())])
async def test_having_no_credentials_is_not_counted_as_ok(tracing: Tracing) -> None:
    metrics = Metrics()
    observer = tracing.observed("broker", lambda _: metrics.credentials.timed("default"))
    broker = ObservedBroker(CredentialRouter(()), {"": observer}, observer)
    alice = Principal(ISSUER, "alice", START + 600)
    assert await broker.issue(alice, token=Secret("t"), resource=RESOURCE, now=START) is None
    assert metrics.credentials.results == {("default", "none"): 1}


async def test_the_first_event_is_an_increase(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with measured(tmp_path, caplog, name="api") as (_, _, address):
        text = (await scrape(address)).text
    for via in ("unary", "stream", "create"):
        assert f'authsvc_resolves_total{{result="INTERNAL",via="{via}"}} 0.0' in text
    for name in ("default", "api", "unknown"):
        labels = f'{{name="{name}",result="ARGUMENT_INVALID"}}'
        assert f"authsvc_credentials_requests_total{labels} 0.0" in text
    for caller in ("", "local"):
        labels = f'caller="{caller}",event="CALLER_DENIED",reason="CALLER_NOT_ALLOWED"'
        assert f"authsvc_security_events_total{{{labels}}} 0.0" in text


def test_every_failure_of_the_store_is_an_increase(tmp_path: Path, idp: IdentityProvider) -> None:
    members = inspect.getmembers_static(SessionStore, inspect.iscoroutinefunction)
    methods = {name for name, _ in members}
    metrics = metrics_of(settings_for(tmp_path, idp))
    counted = {operation for operation, _ in metrics.store.results}
    # A clock that cannot be read fails no request.
    assert counted == methods - {"close", "server_times"}
    assert {*metrics.store.results.values()} == {0}


def test_without_credentials_none_are_counted(tmp_path: Path, idp: IdentityProvider) -> None:
    settings = settings_for(tmp_path, idp).model_copy(update={"credentials": CredentialSettings()})
    assert metrics_of(settings).credentials.results == {}


async def test_sessions_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.server.housekeeping.COUNT_INTERVAL_SECONDS", 0.05)
    async with measured(tmp_path, caplog) as (service, idp, address):
        await service.client.create("", resource=RESOURCE)
        for _ in range(2):
            await service.client.create(idp.token(), resource=RESOURCE)
        async with asyncio.timeout(BOUND_SECONDS):
            while (scraped := await scrape(address)).value(
                "authsvc_sessions", state="authenticated"
            ) != 2:
                continue
    assert scraped.value("authsvc_sessions", state="unauthenticated") == 1
    assert scraped.value("authsvc_store_operation_duration_seconds_count", operation="count") > 0
    assert scraped.value("authsvc_store_operation_duration_seconds_count", operation="space") > 0
    assert 'duration_seconds_count{operation="page"' not in scraped.text
    assert "authsvc_store_space" not in scraped.text  # the store is memory


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (None, {}),
        (
            StoreSpace("disk", 3, 10),
            {"space_used_bytes{kind=disk}": 3, "space_limit_bytes{kind=disk}": 10},
        ),
        (
            StoreSpace("memory", 3, None, persistence_ok=True),
            {"space_used_bytes{kind=memory}": 3, "persistence_ok": 1},
        ),
        (
            StoreSpace("memory", 3, 10, persistence_ok=False),
            {
                "space_used_bytes{kind=memory}": 3,
                "space_limit_bytes{kind=memory}": 10,
                "persistence_ok": 0,
            },
        ),
    ],
)
async def test_what_is_known_of_the_space_is_exposed(
    space: StoreSpace | None, expected: dict[str, float]
) -> None:
    metrics = Metrics(store_space=space)
    samples = {
        sample.name
        + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in ServiceCollector(metrics).collect()
        for sample in family.samples
    }
    found = {
        name.removeprefix("authsvc_store_"): value
        for name, value in samples.items()
        if "store_space" in name or "store_persistence" in name
    }
    assert found == expected


async def test_while_the_space_cannot_be_read_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.server.housekeeping.COUNT_INTERVAL_SECONDS", 0.01)
    answers: list[StoreSpace | None] = [StoreSpace("disk", 3, 10)]

    async def space(store: MemoryStore) -> StoreSpace | None:
        if not answers:
            raise AuthError(Reason.STORE_UNAVAILABLE)
        return answers[0]

    monkeypatch.setattr(MemoryStore, "space", space)
    async with measured(tmp_path, caplog) as (_, _, address):
        async with asyncio.timeout(BOUND_SECONDS):
            while "authsvc_store_space_used_bytes" not in (await scrape(address)).text:
                continue
            answers.clear()
            while "authsvc_store_space_used_bytes" in (text := (await scrape(address)).text):
                continue
            answers.append(StoreSpace("disk", 4, 10))
            while "authsvc_store_space_used_bytes" not in (await scrape(address)).text:
                continue
    failures = 'authsvc_store_operation_failures_total{operation="space"'
    assert failures in text
    assert "has failed" not in caplog.text


async def test_metrics_hold_nothing_of_a_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with measured(tmp_path, caplog) as (service, idp, address):
        token = idp.token(sub="somebody-in-particular", roles=["reader"])
        created = await service.client.create(token, resource=RESOURCE)
        assert created.session is not None
        with pytest.raises(AuthError):
            await service.client.resolve(created.session.id, token + "x", resource=RESOURCE)
        text = (await scrape(address)).text
    assert "authsvc_resolves_total" in text
    for hidden in (token, created.session.id, created.session.id[:8], "somebody-in-particular"):
        assert hidden not in text
    assert "secret-of-reader" not in text


async def test_every_metric_is_documented(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with measured(tmp_path, caplog) as (_, _, address):
        text = (await scrape(address)).text
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE authsvc_")}
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page} == set()


async def test_an_address_in_use_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with measured(tmp_path, caplog) as (_, idp, address):
        second = tmp_path / "second"
        second.mkdir()
        settings = settings_for(second, idp, metrics={"listen": address})
        with pytest.raises(ConfigError, match=r"metrics\.listen"):
            async with serving(settings, Clock()):
                pass
