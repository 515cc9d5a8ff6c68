"""``authsvc doctor`` on clocks: which differ, and which one is wrong."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from authsvc.diagnosis import Finding, Level, Report, diagnose
from authsvc.diagnosis.clocks import Peer, checks, compare
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, Site, serving_http
from tests.support.keys import jwks, signer
from tests.support.service import settings_for, store_settings
from tests.support.signals import CLIENT
from tests.support.tokens import ISSUER, IdentityProvider
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

OURS, THEIRS, UNKNOWN = "This machine's clock", "That clock", "Synchronise both clocks"


async def found(settings: Settings) -> list[Finding]:
    return [it async for it in diagnose(checks(settings), timeout_seconds=TIMEOUT_SECONDS)]


def trusting(folder: Path, idp: IdentityProvider, url: str, **changes: object) -> Settings:
    issuer = {"issuer": ISSUER, "algorithms": ["ES256"], "jwks_url": url}
    return settings_for(folder, idp, **{"issuers": [issuer], **changes})  # type: ignore[arg-type] # any setting


def shifted(site: Site, seconds: float) -> Site:
    site.answers["/keys"] = Answer(jwks(signer("k1")))
    site.clock = lambda: time.time() + seconds
    return site


@pytest.mark.parametrize(
    ("skew", "level"),
    [
        (0, Level.OK),
        (9, Level.OK),
        (12, Level.WARN),
        (-12, Level.WARN),
        (90, Level.FAIL),
        (-90, Level.FAIL),
    ],
)
@pytest.mark.parametrize("of", ["issuer", "stream", "discovery"])
async def test_one_issuer(
    of: str, skew: int, level: Level, tmp_path: Path, idp: IdentityProvider
) -> None:
    with serving_http() as site:
        url = f"{shifted(site, skew).url}/keys"
        match of:
            case "issuer":
                settings, name = trusting(tmp_path, idp, url), ISSUER
            case "stream":
                keys = {"jwks_url": url, "algorithms": ["ES256"]}
                stream = {"issuer": ISSUER, "audiences": [CLIENT], **keys}
                table = {"listen": "127.0.0.1:0", "streams": [stream]}
                settings, name = settings_for(tmp_path, idp, signals=table), f"{ISSUER} (signals)"
            case _:
                name = site.url
                site.answers["/.well-known/openid-configuration"] = Answer(b"{}")
                issuers = [{"issuer": name, "algorithms": ["ES256"], "discover": True}]
                settings = settings_for(tmp_path, idp, issuers=issuers)
        (clock,) = await found(settings)
    assert clock.level is level
    text = f"{name}: its clock differs from this machine's by "
    assert clock.text.startswith(text)
    # A busy machine takes a second or two.
    assert int(clock.text.removeprefix(text).split()[0]) == pytest.approx(skew, abs=3)
    assert clock.remedy.startswith("" if level is Level.OK else UNKNOWN)
    assert ("leeway_seconds = 30" in clock.text) is (level is Level.FAIL)


async def test_the_store_is_a_third_clock(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as site:
        url = f"{shifted(site, 90).url}/keys"
        store = store_settings(tmp_path, "redis")
        issuer, of_store = await found(trusting(tmp_path, idp, url, store=store))
        assert (issuer.level, of_store.level) == (Level.FAIL, Level.OK)
        assert issuer.remedy.startswith(THEIRS)
        assert of_store.text.startswith("the store: its clock differs from this machine's by ")
        # What cannot be reached is a finding of another check.
        gone = {"kind": "redis", "url": f"redis://127.0.0.1:{free_port()}"}
        (issuer,) = await found(trusting(tmp_path, idp, url, store=gone))
        assert issuer.remedy.startswith(UNKNOWN)
        (of_store,) = await found(trusting(tmp_path, idp, f"{site.url}/none", store=store))
        assert of_store.level is Level.OK
        missing = {
            "issuer": ISSUER,
            "algorithms": ["ES256"],
            "jwks_url": "https://idp.example/keys",
            "ca_file": tmp_path / "missing",
        }
        (of_store,) = await found(settings_for(tmp_path, idp, store, issuers=[missing]))
        assert of_store.level is Level.OK
        site.date = None
        assert await found(trusting(tmp_path, idp, url)) == []


async def test_two_issuers_against_this_machine(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as site:
        shifted(site, 20)

        def trusting_at(*hosts: str) -> Settings:
            issuers = [
                {
                    "issuer": f"https://idp{number}.example",
                    "algorithms": ["ES256"],
                    "jwks_url": site.url.replace("127.0.0.1", host) + "/keys",
                }
                for number, host in enumerate(hosts)
            ]
            return settings_for(tmp_path, idp, issuers=issuers)

        for finding in await found(trusting_at("127.0.0.1", "localhost")):
            assert (finding.level, finding.remedy.startswith(OURS)) == (Level.WARN, True)
        # Two issuers of one host have one clock.
        for finding in await found(trusting_at("127.0.0.1", "127.0.0.1")):
            assert (finding.level, finding.remedy.startswith(UNKNOWN)) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("offsets", "remedies"),
    [
        ((20,), (UNKNOWN,)),
        ((20, 20), (OURS, OURS)),
        ((-20, -25), (OURS, OURS)),
        ((20, 0), (THEIRS, "")),
        ((20, -20), (UNKNOWN, UNKNOWN)),
        ((20, 20, 0), (UNKNOWN, UNKNOWN, "")),
        ((20, 20, 20, 0), (OURS, OURS, OURS, "")),
        ((20, 20, 20, -90), (OURS, OURS, OURS, UNKNOWN)),
        ((90, -90, 0), (UNKNOWN, UNKNOWN, "")),
        ((90, -90, 0, 5), (THEIRS, THEIRS, "", "")),
        ((20, None, 0), (THEIRS, "")),
        ((20, None, None), (UNKNOWN,)),
    ],
)
async def test_which_clock_is_wrong(
    offsets: tuple[float | None, ...], remedies: tuple[str, ...]
) -> None:
    def peer(number: int, offset: float | None) -> Peer:
        async def measured() -> float | None:
            return offset

        return Peer(f"p{number}", f"p{number}", measured)

    report = Report("clocks")
    await compare(report, peers=[peer(*it) for it in enumerate(offsets)])
    for finding, remedy in zip(report.findings, remedies, strict=True):
        assert finding.level is (Level.WARN if remedy else Level.OK)
        assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize("others", [(), (0.0, 0.0)])
async def test_a_leeway_below_what_counts_as_agreement(others: tuple[float, ...]) -> None:
    async def measured(offset: float) -> float:
        return offset

    peers = [Peer("p", "p", partial(measured, 9.0), leeway_seconds=5)]
    peers += [Peer(f"o{n}", f"o{n}", partial(measured, it)) for n, it in enumerate(others)]
    report = Report("clocks")
    await compare(report, peers=peers)
    assert report.findings[0].level is Level.FAIL
    assert report.findings[0].remedy.startswith(UNKNOWN)


async def test_without_another_machine(tmp_path: Path, idp: IdentityProvider) -> None:
    assert checks(settings_for(tmp_path, idp, "sqlite")) == []


async def test_a_clock_that_does_not_answer_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.diagnosis.clocks.PEER_SECONDS", 0.01)

    async def hangs() -> float:
        return await asyncio.Future[float]()

    async def right() -> float:
        return 0.0

    report = Report("clocks")
    await compare(report, peers=(Peer("a", "a", hangs), Peer("b", "b", right)))
    assert [it.text.split(":")[0] for it in report.findings] == ["b"]
