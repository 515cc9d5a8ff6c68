"""Alerts by real outages: a store that is slow and then gone, a replica and an adapter that end."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

import httpx2
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from authsvc.domain.errors import AuthError
from authsvc.server import housekeeping
from authsvc.stores.redis.store import RedisStore
from tests.deploy.test_monitoring import METRICS, initialize, post, scrape
from tests.deploy.test_provoked_alerts import (
    CASES,
    QUIET_SECONDS,
    SENDER,
    Watched,
    assert_fires,
    by_default,
    pushed,
    receiving,
    watched,
)
from tests.support import stack
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.http import Site
from tests.support.processes import Process
from tests.support.promtool import RULES, Scenario, check
from tests.support.recorded import Phase, recorded
from tests.support.scraping import Scraped
from tests.support.service import serving, settings_for
from tests.support.tokens import RESOURCE, IdentityProvider
from tests.support.valkey import Valkey, single

pytestmark = pytest.mark.anyio

NO_SITE = Site()
FAILED = re.compile(r"^authsvc_store_operation_failures_total{.*} [1-9]", re.MULTILINE)
DAY = 86400.0


@pytest.fixture
def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    # Its clock is real, and that of authsvc stands still: they differ, and that is no fault here.
    async def unknown(store: RedisStore) -> tuple[float, ...]:
        return ()

    monkeypatch.setattr(RedisStore, "server_times", unknown)
    with single(tmp_path) as server:
        yield server


async def test_the_store_is_slow_and_then_gone(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "COUNT_INTERVAL_SECONDS", 0.2)

    def settings(folder: Path, site: Site) -> Mapping[str, object]:
        (folder / "encryption.key").write_text(secrets.token_hex(32))
        (folder / "encryption.key").chmod(0o600)
        return {
            **receiving(folder, site),
            "store": {"kind": "redis", "url": valkey.url, "timeout_seconds": TIMEOUT_SECONDS},
            "assertions": {
                "issuer": "https://authsvc.example",
                "listen": "127.0.0.1:0",
                "encryption_key_file": folder / "encryption.key",
            },
        }

    async with AsyncExitStack() as running:
        it = await watched(tmp_path, clock, idp, running, NO_SITE, settings)
        before = await it.until(is_ready)
        slow = await waiting_for_the_store(it, valkey)
        valkey.kill()
        clock.advance(200)
        killed = await it.scraped()
        assert await pushed(it, SENDER.security_event_token()) == 503
        gone = await it.until(is_gone)
    assert_fires({"AuthsvcStoreSlow"}, tmp_path, clock(), before, before, slow, seconds=1500)
    outage = [
        Phase(slow, slow, QUIET_SECONDS, clock()),
        Phase(killed, gone, 135, clock()),
        Phase(slow, slow, QUIET_SECONDS, clock()),
    ]
    at_once = ("AuthsvcStoreFails", "AuthsvcNotReady", "AuthsvcAssertionKeysStale")
    fired = dict.fromkeys(at_once, QUIET_SECONDS + 135) | {"AuthsvcSignalsUnavailable": 1335}
    check(Scenario("135 s", recorded("authsvc", *outage), fired, 1335), tmp_path)


async def waiting_for_the_store(it: Watched, valkey: Valkey) -> str:
    """A scrape after an operation that has taken a fifth of a second."""
    valkey.pause()
    creating = asyncio.create_task(it.service.client.create(it.idp.token(), resource=RESOURCE))
    try:
        await it.until(lambda found: found.value("authsvc_resolves_in_flight", via="create") == 1)
        await asyncio.sleep(0.2)
    finally:
        valkey.resume()
    await creating
    return await it.until(is_ready)


def is_ready(found: Scraped) -> bool:
    return found.value("authsvc_ready") == 1


def is_gone(found: Scraped) -> bool:
    """Whether one of the service's own tasks has failed."""
    return found.value("authsvc_ready") == 0 and FAILED.search(found.text) is not None


async def test_the_store_takes_no_writes(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, valkey: Valkey
) -> None:
    """A failover that authsvc has not seen."""

    def settings(folder: Path, site: Site) -> Mapping[str, object]:
        return {"store": {"kind": "redis", "url": valkey.url}}

    async with AsyncExitStack() as running:
        it = await watched(tmp_path, clock, idp, running, NO_SITE, settings)
        before = await it.until(is_ready)
        with closing(valkey.client()) as client:
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(AuthError):
                await it.service.client.create(idp.token(), resource=RESOURCE)
            after = await it.until(
                lambda it: is_ready(it) and "authsvc_store_writes 0.0" in it.text
            )
            client.replicaof("NO", "ONE")
    alerts = {"AuthsvcStoreNotWritable", "AuthsvcStoreFails"}
    assert_fires(alerts, tmp_path, clock(), before, before, after)


async def test_the_store_is_nearly_full_and_then_its_disk_takes_nothing(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "COUNT_INTERVAL_SECONDS", 0.2)

    def settings(folder: Path, site: Site) -> Mapping[str, object]:
        return {"store": {"kind": "redis", "url": valkey.url}}

    async with AsyncExitStack() as running:
        it = await watched(tmp_path, clock, idp, running, NO_SITE, settings)
        before = await it.until(is_ready)
        with closing(valkey.client()) as client:
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.08))
            limit = "authsvc_store_space_limit_bytes"
            full = await it.until(lambda found: found.value(limit, kind="memory") > 0)
            # Its place is taken by a folder.
            place = client.config_get()
            Path(str(place["dir"]), str(place["dbfilename"])).mkdir()
            client.bgsave()
            lost = await it.until(lambda found: "authsvc_store_persistence_ok 0.0" in found.text)
    assert_fires({"AuthsvcStoreNearlyFull"}, tmp_path, clock(), before, before, full)
    both = {"AuthsvcStoreNearlyFull", "AuthsvcStoreNotPersistent"}
    assert_fires(both, tmp_path, clock(), full, full, lost)


async def test_a_replica_ends(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    async with AsyncExitStack() as running:
        it = await watched(tmp_path, clock, idp, running, NO_SITE, by_default)
        alive = await it.scraped()
    with pytest.raises(httpx2.ConnectError):
        await it.scraped()
    assert_fires({"AuthsvcDown"}, tmp_path, clock(), alive, alive, "")


async def test_a_claim_is_renamed(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    """For a day a principal gets credentials, and then none."""
    async with AsyncExitStack() as running:
        it = await watched(tmp_path, clock, idp, running, NO_SITE, by_default)
        scrapes = [await it.scraped()]
        for roles in (["reader"], ["readers"]):
            token = it.idp.token(roles=roles)
            await it.service.client.create(token, resource=RESOURCE)
            scrapes.append(await it.scraped())
    before, day, now = scrapes
    phases = [Phase(before, day, DAY, clock()), Phase(day, now, DAY / 12, clock())]
    series = recorded("authsvc", *phases)
    end = DAY * 13 / 12
    check(Scenario("renamed", series, {"AuthsvcNoCredentials": end}, end, (900,)), tmp_path)


async def test_an_adapter_loses_authsvc_and_then_its_place_there(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    settings = settings_for(tmp_path, idp, resources=(stack.RESOURCE,))
    audit = '[audit]\ncalls = "full"\nfile = "/dev/full"\n'
    with ExitStack() as processes:
        async with serving(settings, clock) as service:
            adapter, url = stack.start_adapter(
                tmp_path,
                processes,
                authsvc=service.address,
                s3="http://127.0.0.1:9",
                tls=METRICS,
                tables=audit,
                deadline_seconds=3,
            )
            fresh = await scraped(adapter, "mcp_adapter_ready 1.0")
            session = await asyncio.to_thread(initialize, url)
            await asyncio.to_thread(
                post, url, "tools/list", {}, session=session, token=idp.token(aud=stack.RESOURCE)
            )
            unaudited = await scraped(
                adapter,
                *(f'mcp_adapter_audit_calls_total{{result="failed"}} {it}.0' for it in (1, 2)),
            )
        answer, ready = await asyncio.gather(
            asyncio.to_thread(post, url, "tools/list", {}, session=session, token="x"),
            asyncio.to_thread(get, f"{url}/readyz"),
        )
        assert (answer.status_code, ready.status_code) == (503, 503)
        alone = await scraped(adapter, "mcp_adapter_ready 0.0")
        other = settings_for(tmp_path, idp)
        async with serving(other, clock):
            ready = await asyncio.to_thread(get, f"{url}/readyz")
            assert "CALLER_NOT_ALLOWED" in ready.text
            denied = await asyncio.to_thread(scrape, adapter)

    def fires(alerts: Collection[str], *scrapes: str) -> None:
        assert_fires(alerts, tmp_path, clock(), *scrapes, job="mcp-adapter")

    fires({"AdapterAuditCallsLost"}, fresh, fresh, unaudited)
    waits = {"AdapterNotReady", "AdapterServerErrors", "AdapterAuthsvcSlow"}
    fires({*waits, "AdapterAuditCallsLost"}, unaudited, unaudited, alone)
    # A check that began in the outage may end in either.
    alone, denied = map(without_latencies, (alone, denied))
    fires({"AdapterNotReady", "AdapterDenied"}, alone, alone, denied)
    fires({"AdapterDown"}, fresh, fresh, "")


async def scraped(adapter: Process, *line: str) -> str:
    """The first scrape of an adapter with one of these lines."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            text = await asyncio.to_thread(scrape, adapter)
            if not {*line}.isdisjoint(text.splitlines()):
                return text
            await asyncio.sleep(0.05)


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, timeout=TIMEOUT_SECONDS)


def without_latencies(text: str) -> str:
    return "\n".join(it for it in text.splitlines() if "duration_seconds" not in it) + "\n"


OUTAGES = {
    *(
        "AuthsvcStoreNotWritable",
        "AuthsvcStoreNearlyFull",
        "AuthsvcStoreNotPersistent",
        "AuthsvcStoreSlow",
        "AuthsvcStoreFails",
        "AuthsvcNotReady",
        "AuthsvcAssertionKeysStale",
    ),
    *("AuthsvcSignalsUnavailable", "AuthsvcDown", "AuthsvcNoCredentials", "AdapterAuditCallsLost"),
    *("AdapterNotReady", "AdapterServerErrors", "AdapterAuthsvcSlow", "AdapterDenied"),
    "AdapterDown",
}
"""The alerts that fire above."""

MADE = {
    "AuthsvcAbsent": "it is about what Prometheus discovers",
    "AdapterAbsent": "likewise",
    "ConsoleDown": "it is about up, as AuthsvcDown and AdapterDown, and about discovery",
    "ConsoleCertificateExpires": "as authsvc's, which is the same rule on the same code",
    "AuthsvcAuditCallsLost": "the adapter's is the same rule on the same code",
    "AdapterCertificateExpires": "as authsvc's, which is the same rule on the same code",
    "AdapterCertificateExpiresSoon": "likewise",
    "GatewayAuthsvcErrors": "Envoy's counters, as its documentation has them",
    "GatewayOpen": "likewise",
}
"""The alerts that only made series fire, and why."""


async def test_each_alert_is_fired_by_a_real_fault() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    provoked = OUTAGES.union(*(case.fires for case in CASES))
    assert provoked.isdisjoint(MADE)
    assert alerts == provoked | {*MADE}
