"""Alerts by real faults: what running programs expose before and during them is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError
from authsvc.server import housekeeping
from authsvc.stores.memory import MemoryStore
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.certificates import Authority
from tests.support.clock import START, Clock
from tests.support.http import Answer, Site, serving_http
from tests.support.keys import jwks
from tests.support.promtool import Scenario, check, gauge
from tests.support.recorded import Phase, recorded
from tests.support.scraping import Scraped, scrape
from tests.support.service import Service, serving, settings_for
from tests.support.signals import CLIENT, RECEIVER, SSF, Sender
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

QUIET_SECONDS = 600.0


@dataclass
class Watched:
    """A running service, and what it exposes."""

    service: Service
    idp: IdentityProvider
    clock: Clock
    site: Site
    address: str

    async def rejected(self, token: str, **more: Any) -> None:  # noqa: ANN401 - as of resolve
        """Have a request rejected."""
        with pytest.raises(AuthError):
            await self.service.client.resolve(
                **{"session_id": "s1", "token": token, "resource": RESOURCE, "create": True, **more}
            )

    async def scraped(self) -> str:
        return (await scrape(self.address)).text

    async def until(self, condition: Callable[[Scraped], bool]) -> str:
        """The first scrape with what the service's own tasks make."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                if condition(found := await scrape(self.address)):
                    return found.text
                await asyncio.sleep(0.05)


Fault = Callable[[Watched], Awaitable[object]]
Settings = Callable[[Path, Site], Mapping[str, object]]


async def watched(
    folder: Path,
    clock: Clock,
    idp: IdentityProvider,
    running: AsyncExitStack,
    site: Site,
    changed: Settings,
) -> Watched:
    """A service with these changes to its settings."""
    address = f"127.0.0.1:{free_port()}"
    changes: Any = {"metrics": {"listen": address}, **changed(folder, site)}
    service = await running.enter_async_context(
        serving(settings_for(folder, idp, **changes), clock)
    )
    return Watched(service, idp, clock, site, address)


def by_default(folder: Path, site: Site) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True)
class Case:
    """A fault, and what it fires.

    Attributes:
        fires: the alerts, and no other.
        fault: brings it about; its result is the scrape that shows it, if it has waited for one.
        settings: of the service, by its folder and a site that others of its settings may name.
        seconds: how long it goes on.
    """

    fires: Collection[str]
    fault: Fault
    settings: Settings = by_default
    seconds: float = 1200.0


async def subject_mixed_up(it: Watched) -> None:
    session = (await it.service.client.create(it.idp.token(), resource=RESOURCE)).session
    assert session is not None
    await it.rejected(it.idp.token("bob"), session_id=session.id)


async def resource_of_another(it: Watched) -> None:
    await it.rejected(it.idp.token(), resource="https://elsewhere.example/mcp")


async def sessions_without_token(it: Watched) -> None:
    await it.service.client.create("", resource=RESOURCE)
    with pytest.raises(AuthError):
        await it.service.client.create("", resource=RESOURCE)


async def subject_calls_often(it: Watched) -> None:
    token = it.idp.token()
    await it.service.client.create(token, resource=RESOURCE)
    await it.rejected(token)


async def wrong_audience(it: Watched) -> None:
    await it.rejected(it.idp.token(aud="https://elsewhere.example/mcp"))


def audited_to_a_full_disk(folder: Path, site: Site) -> Mapping[str, object]:
    return {"audit_file": "/dev/full"}


async def event_not_written(it: Watched) -> str:
    """A rejected token is a security event."""
    await wrong_audience(it)
    lost = "authsvc_audit_events_total"
    return await it.until(lambda found: found.value(lost, result="failed") > 0)


async def defect(it: Watched) -> None:
    async def broken(store: MemoryStore, session_id: str) -> None:
        raise RuntimeError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MemoryStore, "get", broken)
        await it.rejected(it.idp.token())


def limits(**values: float) -> Settings:
    return lambda folder, site: {"limits": values}


def exchange(folder: Path, site: Site, **changes: object) -> Mapping[str, object]:
    """Credentials of the name api, from ``/token``."""
    (folder / "client.secret").write_text("secret")
    table = {
        "name": "api",
        "resources": [RESOURCE],
        "issuers": [ISSUER],
        "endpoint": f"{site.url}/token",
        "client_id": "authsvc",
        "client_secret_file": folder / "client.secret",
    }
    return {"credentials": {"exchange": [{**table, **changes}]}}


async def asked_for(it: Watched, name: str) -> None:
    await it.service.client.create(
        it.idp.token(), resource=RESOURCE, credentials=[CredentialRequest(name)]
    )


async def token_endpoint_fails(it: Watched) -> None:
    it.site.answers["/token"] = Answer(b"down", status=503)
    await asked_for(it, "api")


async def token_endpoint_refuses(it: Watched) -> None:
    it.site.answers["/token"] = Answer(b'{"error": "invalid_grant"}', status=400)
    await asked_for(it, "api")


async def unknown_name(it: Watched) -> None:
    await asked_for(it, "apii")


def assertion_file(begins: float, ends: float) -> Settings:
    """A client assertion that began and ends so many seconds from now."""

    def settings(folder: Path, site: Site) -> Mapping[str, object]:
        now = START
        text = jwt.encode({"iat": now + begins, "exp": now + ends}, "k" * 32, algorithm="HS256")
        (folder / "assertion").write_text(text)
        changes = {
            "auth_method": "client_assertion_file",
            "client_assertion_file": folder / "assertion",
            "client_secret_file": None,
        }
        return exchange(folder, site, **changes)

    return settings


async def file_is_not_renewed(it: Watched) -> None:
    """It was there at the start."""


def with_an_authority(folder: Path, site: Site) -> Mapping[str, object]:
    (folder / "idp.pem").write_bytes(Authority().pem())
    nowhere = "https://127.0.0.1:9/token"
    return exchange(folder, site, endpoint=nowhere, ca_file=folder / "idp.pem")


async def authority_is_overwritten(it: Watched) -> str:
    file = it.service.settings.credentials.exchange[0].ca_file
    assert file is not None
    file.write_text("not a certificate")
    unusable = 'expire_timestamp_seconds{setting="credentials.exchange[0].ca_file"} 0.0'
    return await it.until(lambda found: unusable in found.text)


async def issuer_serves_no_keys(it: Watched) -> str:
    return await it.until(
        lambda found: found.value("authsvc_issuer_state", issuer=ISSUER, state="unavailable") == 1
    )


async def keys_are_not_served_again(it: Watched) -> str:
    it.site.answers["/jwks"] = Answer(b"down", status=503)
    it.clock.advance(3 * 3600)
    return await it.until(
        lambda found: found.value("authsvc_issuer_state", issuer=ISSUER, state="stale") == 1
    )


def fetched_keys(answer: Answer) -> Settings:
    def settings(folder: Path, site: Site) -> Mapping[str, object]:
        site.answers["/jwks"] = answer
        issuer = {"issuer": ISSUER, "algorithms": ["ES256"], "jwks_url": f"{site.url}/jwks"}
        return {"issuers": [issuer]}

    return settings


SENDER = Sender()


def receiving(folder: Path, site: Site, **stream: object) -> Mapping[str, object]:
    (folder / "signals.json").write_bytes(jwks(SENDER.signer))
    table = {
        "issuer": ISSUER,
        "audiences": [RECEIVER, CLIENT],
        "jwks_file": folder / "signals.json",
        "algorithms": ["ES256"],
        **stream,
    }
    return {"signals": {"listen": f"127.0.0.1:{free_port()}", "streams": [table]}}


def polling(folder: Path, site: Site) -> Mapping[str, object]:
    (folder / "poll").write_text("Bearer secret")
    poll = {"poll_url": f"{site.url}/poll", "poll_authorization_file": folder / "poll"}
    return receiving(folder, site, **poll)


async def pushed(it: Watched, text: str) -> int:
    """The status of the answer to a signal."""
    signals = it.service.settings.signals
    assert signals is not None
    async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as http:
        url = f"http://{signals.listen}/signals/events"
        headers = {"Content-Type": "application/secevent+jwt"}
        return (await http.post(url, content=text, headers=headers)).status_code


async def forged_signal(it: Watched) -> None:
    assert await pushed(it, Sender().security_event_token()) == 400


async def signal_of_nobody(it: Watched) -> None:
    somebody = {"format": "email", "email": "alice@example.com"}
    assert await pushed(it, SENDER.security_event_token(sub_id=somebody)) == 202


async def stream_paused(it: Watched) -> str:
    text = SENDER.security_event_token(
        event_type=f"{SSF}stream-updated",
        event={"status": "paused"},
        sub_id={"format": "opaque", "id": "stream-1"},
    )
    assert await pushed(it, text) == 202
    state = "authsvc_signal_stream_state"
    return await it.until(lambda found: found.value(state, issuer=ISSUER, state="paused") == 1)


async def transmitter_fails(it: Watched) -> str:
    polls = "authsvc_signal_polls_total"
    return await it.until(lambda found: found.value(polls, issuer=ISSUER, result="failed") > 0)


def with_a_clock_ahead(folder: Path, site: Site) -> Mapping[str, object]:
    ours = site.clock
    site.clock = lambda: ours() + 60
    return fetched_keys(Answer(jwks(SENDER.signer)))(folder, site)


async def clock_is_compared(it: Watched) -> str:
    offset = "authsvc_clock_offset_seconds"
    return await it.until(lambda found: found.value(offset, peer=ISSUER) > 0)


CASES = [
    Case({"AuthsvcSubjectMismatch"}, subject_mixed_up),
    Case({"AuthsvcCallerDenied"}, resource_of_another),
    Case(
        {"AuthsvcLimitReached"},
        sessions_without_token,
        limits(anonymous_sessions_per_second=0.001, anonymous_sessions_burst=1),
    ),
    Case(
        {"AuthsvcCallsLimited"},
        subject_calls_often,
        limits(calls_per_second_per_subject=0.001, calls_burst_per_subject=1),
        seconds=3000,
    ),
    Case({"AuthsvcRejections"}, wrong_audience),
    Case(
        {"AuthsvcRejections", "AuthsvcAuditEventsLost"}, event_not_written, audited_to_a_full_disk
    ),
    Case({"AuthsvcInternalErrors", "AuthsvcStoreFails"}, defect),
    Case({"AuthsvcCredentialsFail"}, token_endpoint_fails, exchange),
    Case({"AuthsvcCredentialsRefused"}, token_endpoint_refuses, exchange, seconds=2400),
    Case({"AuthsvcCredentialsUnknownName"}, unknown_name, exchange),
    Case({"AuthsvcClientCredentialExpires"}, file_is_not_renewed, assertion_file(-90000, 7200)),
    Case({"AuthsvcClientCredentialExpired"}, file_is_not_renewed, assertion_file(-9e4, -3600)),
    Case(
        {"AuthsvcCertificateExpires", "AuthsvcCertificateExpiresSoon"},
        authority_is_overwritten,
        with_an_authority,
    ),
    Case(
        {"AuthsvcIssuerUnavailable", "AuthsvcNotReady"},
        issuer_serves_no_keys,
        fetched_keys(Answer(b"down", status=503)),
    ),
    Case(
        {"AuthsvcKeysStale"}, keys_are_not_served_again, fetched_keys(Answer(jwks(SENDER.signer)))
    ),
    Case({"AuthsvcClockDiffers"}, clock_is_compared, with_a_clock_ahead),
    Case({"AuthsvcSignalsRejected"}, forged_signal, receiving),
    Case({"AuthsvcSignalsUnknownSubject"}, signal_of_nobody, receiving),
    Case({"AuthsvcSignalStreamStopped"}, stream_paused, receiving),
    Case(
        {"AuthsvcSignalsNotPolled", "AuthsvcSignalPollsFail"},
        transmitter_fails,
        polling,
        seconds=1800,
    ),
]


_DURATION = "_duration_seconds_bucket"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.__name__)
async def test_faults(
    case: Case,
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "STREAMS_SECONDS", 0.05)
    with serving_http() as site:
        site.clock = clock
        async with AsyncExitStack() as running:
            it = await watched(tmp_path, clock, idp, running, site, case.settings)
            before = await it.scraped()
            after = await case.fault(it) or await it.scraped()
    assert_fires(case.fires, tmp_path, clock(), before, before, str(after), seconds=case.seconds)


def assert_fires(
    alerts: Collection[str],
    folder: Path,
    clock: float,
    *scrapes: str,
    seconds: float = 1200.0,
    job: str = "authsvc",
) -> None:
    """Check that these fire, and no other, while what the last two scrapes saw goes on. How long
    operations took counts only for an alert that is about that: this machine may be slow."""
    pairs = pairwise(scrapes)
    phases = [Phase(before, after, QUIET_SECONDS, clock) for before, after in pairs]
    phases[-1] = Phase(phases[-1].before, phases[-1].after, seconds, clock)
    end = QUIET_SECONDS * (len(phases) - 1) + seconds
    found = recorded(job, *phases)
    if not any(it.endswith("Slow") for it in alerts):
        found = {name: line for name, line in found.items() if _DURATION not in name}
    series = {'up{job="authsvc",instance="another"}': gauge((1, 1)), **found}
    check(Scenario("recorded", series, dict.fromkeys(alerts, end), end, scrapes=(15,)), folder)
