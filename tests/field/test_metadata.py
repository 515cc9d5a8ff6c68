"""Metadata as issuers serve it: at three places, of which some answer with something else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from authsvc.cli import main
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Finding, Level, diagnose, issuers
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.issuers import issuer_of
from authsvc.tokens.discovery import read_metadata
from authsvc.tokens.jwt import Issuer, JwtVerifier
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.keys import jwks, signer
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

KEY = signer("k1")

RFC_8414 = "/.well-known/oauth-authorization-server{path}"
OIDC_INSERTED = "/.well-known/openid-configuration{path}"
OIDC_APPENDED = "{path}/.well-known/openid-configuration"
PLACES = (RFC_8414, OIDC_INSERTED, OIDC_APPENDED)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        running.answers["/jwks"] = Answer(jwks(KEY))
        yield running


def metadata(issuer: object, jwks_uri: object, **more: object) -> Answer:
    document = {"issuer": issuer, "jwks_uri": jwks_uri, **more}
    return Answer(json.dumps(document).encode(), headers={"Content-Type": "application/json"})


def configured(issuer: str, **settings: object) -> Issuer:
    table = {"issuer": issuer, "algorithms": ["ES256"], **({"discover": True} | settings)}
    return issuer_of(IssuerSettings.model_validate(table))


async def accepts(issuer: Issuer) -> bool:
    """Whether its keys are found, and a token of it is accepted."""
    await issuer.keys.refresh(START)
    verifier = JwtVerifier([issuer])
    token = BearerToken(KEY.token(START, iss=issuer.issuer))
    try:
        await verifier.verify(token, resource=RESOURCE, now=START)
    except AuthError as error:
        assert error.reason is Reason.KEYS_UNAVAILABLE  # noqa: PT017 - the other outcome
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
async def test_metadata_of_an_issuer_with_a_path_is_found_at_each_place(
    site: Site, place: str
) -> None:
    issuer = f"{site.url}/tenant1"
    site.answers[place.format(path="/tenant1")] = metadata(issuer, f"{site.url}/jwks")
    assert await accepts(configured(issuer))
    tried = [it.format(path="/tenant1") for it in PLACES[: PLACES.index(place) + 1]]
    assert site.requests == [*tried, "/jwks"]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("place", [RFC_8414, OIDC_APPENDED])
async def test_metadata_of_an_issuer_without_a_path_is_found_at_both_places(
    site: Site, place: str, slash: str
) -> None:
    issuer = site.url + slash
    site.answers[place.format(path="")] = metadata(issuer, f"{site.url}/jwks")
    assert await accepts(configured(issuer))
    assert len(site.requests) == len(set(site.requests))


PASSED_OVER = {
    "html": (
        Answer(b"<!doctype html><p>Sign in", headers={"Content-Type": "text/html; charset=utf-8"}),
        "is not JSON (sent as 'text/html')",
    ),
    "nothing": (Answer(), "is not JSON"),
    "not found": (Answer(status=404), "answered 404"),
    "an error": (Answer(b"{}", status=500), "answered 500"),
    "unauthorized": (Answer(status=401), "answered 401"),
    "a redirect": (
        Answer(status=302, headers={"Location": "/good"}),
        "answered 302, a redirect, which is not followed",
    ),
    "a list": (Answer(b"[]"), "is not a JSON object"),
    "garbage": (Answer(bytes(range(256))), "is not JSON"),
    "cut short": (Answer(b'{"issuer": "'), "is not JSON"),
    "a member twice": (Answer(b'{"issuer": "a", "issuer": "b"}'), "has a member twice: issuer"),
    "too long": (Answer(b" " * 600_000), "is longer than"),
    "br": (Answer(headers={"Content-Encoding": "br"}), "answered in the content coding 'br'"),
    "no issuer": (Answer(b"{}"), "names no issuer"),
    "a number as issuer": (metadata(1, "SITE/jwks"), "names no issuer"),
    "another issuer": (
        metadata("https://evil.example", "SITE/jwks"),
        "is the metadata of issuer 'https://evil.example', which is not 'ISSUER'",
    ),
    "no jwks_uri": (metadata("ISSUER", None), "names no jwks_uri"),
    "a list as jwks_uri": (metadata("ISSUER", ["SITE/jwks"]), "names no jwks_uri"),
    "a file": (metadata("ISSUER", "file:///etc/passwd"), "its jwks_uri is not an https URL"),
    "http": (metadata("ISSUER", "http://idp.example/jwks"), "its jwks_uri is not an https URL"),
    "no URL": (metadata("ISSUER", "//x\ny"), "its jwks_uri is not an https URL"),
    "too long a URL": (metadata("ISSUER", "https://a/" + "b" * 4000), "its jwks_uri has more than"),
}


@pytest.mark.parametrize("case", PASSED_OVER)
async def test_a_place_with_something_else_is_passed_over_and_told(site: Site, case: str) -> None:
    issuer = f"{site.url}/tenant1"
    answer, told = PASSED_OVER[case]
    body = answer.body.replace(b"ISSUER", issuer.encode()).replace(b"SITE", site.url.encode())
    first, second, third = (place.format(path="/tenant1") for place in PLACES)
    site.answers[first] = site.answers[second] = Answer(body, answer.status, answer.headers)
    source = configured(issuer)
    assert not await accepts(source)
    for place in (first, second):
        assert f"{site.url}{place}: {told.replace('ISSUER', issuer)}" in source.keys.failure
    assert f"{site.url}{third}: answered 404" in source.keys.failure
    assert len(source.keys.failure) < 2000
    site.answers[third] = metadata(issuer, f"{site.url}/jwks")
    assert await accepts(configured(issuer))


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "a.localhost", "A.Localhost.", "127.0.0.1", "[::1]"]
)
def test_remote_metadata_names_nothing_of_this_machine(host: str) -> None:
    """Nor of a proxy's, which would look the name up."""
    for scheme in ("https", "http"):
        document = metadata("https://idp.example", f"{scheme}://{host}/jwks").body
        with pytest.raises(ValueError, match=r"leads to this machine|is not an https URL"):
            read_metadata(document, "https://idp.example", "https://idp.example/metadata")
    # The configured host may be one.
    document = metadata("https://idp.localhost", "https://idp.localhost/jwks").body
    place = "https://idp.localhost/metadata"
    assert read_metadata(document, "https://idp.localhost", place) == "https://idp.localhost/jwks"


async def test_a_place_that_does_not_answer_is_passed_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", 0.5)
    never = threading.Event()
    site.answers[RFC_8414.format(path="")] = Answer(until=never)
    source = configured(site.url)
    try:
        assert not await accepts(source)
        assert f"{site.url}{RFC_8414.format(path='')}: no answer in 0.5 seconds" in (
            source.keys.failure
        )
        place = OIDC_APPENDED.format(path="")
        site.answers[place] = metadata(site.url, f"{site.url}/jwks")
        monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", 2.0)
        assert await accepts(configured(site.url))
    finally:
        never.set()


async def test_keys_come_from_the_first_place_even_if_they_cannot_be_fetched(site: Site) -> None:
    # Another place could name a set that is out of date.
    site.answers[RFC_8414.format(path="")] = metadata(site.url, f"{site.url}/gone")
    site.answers[OIDC_APPENDED.format(path="")] = metadata(site.url, f"{site.url}/jwks")
    source = configured(site.url)
    assert not await accepts(source)
    place = RFC_8414.format(path="")
    named = f"its URL is the jwks_uri of {site.url}{place}"
    assert source.keys.failure == f"{site.url}/gone: answered 404; {named}"


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("ISSUER/", "they differ in the slash at the end; set issuer to 'ISSUER/'"),
        (
            "https://login.example/{tenantid}/v2.0",
            "is a template for all tenants; set issuer to that of one tenant",
        ),
        ("https://idp.example", "if the claim iss of its tokens is the former, set issuer to it"),
        ("\x1b[2J\u202e\ud800", r"issuer '\x1b[2J\u202e\ud800', which"),
        ("x" * 5000, f"issuer '{'x' * 256}...', which"),
        ("", "issuer '', which"),
    ],
)
async def test_metadata_of_another_issuer_is_refused_with_both_strings(
    site: Site, named: str, hint: str
) -> None:
    named, hint = named.replace("ISSUER", site.url), hint.replace("ISSUER", site.url)
    for place in PLACES:
        site.answers[place.format(path="")] = metadata(named, f"{site.url}/jwks")
    source = configured(site.url)
    assert not await accepts(source)
    assert hint in source.keys.failure
    assert f"is not {site.url!r}" in source.keys.failure
    assert source.keys.failure.isprintable()
    assert len(source.keys.failure) < 1500
    assert "/jwks" not in site.requests


async def test_metadata_at_a_place_of_its_own(site: Site) -> None:
    """As for tokens of Entra's version 1, whose issuer is at another host than its metadata."""
    issuer = "https://sts.windows.example/tenant/"
    site.answers["/tenant/metadata?p=1"] = metadata(issuer, f"{site.url}/jwks")
    assert await accepts(configured(issuer, metadata_url=f"{site.url}/tenant/metadata?p=1"))
    assert await accepts(
        configured(issuer, metadata_url=f"{site.url}/tenant/metadata?p=1", discover=False)
    )
    # Nothing else is asked, and the issuer that it names has to be the configured one.
    site.requests.clear()
    other = configured(issuer.rstrip("/"), metadata_url=f"{site.url}/tenant/metadata?p=1")
    assert not await accepts(other)
    assert "they differ in the slash at the end" in other.keys.failure
    assert site.requests == ["/tenant/metadata?p=1"]


def test_metadata_url_is_a_source_of_keys_of_its_own(tmp_path: Path) -> None:
    for settings, complaint in (
        ({"jwks_url": "https://a.example/jwks", "discover": False}, "exactly one of"),
        ({"jwks_file": tmp_path / "jwks", "discover": False}, "exactly one of"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            configured("https://a.example", metadata_url="https://a.example/m", **settings)
    for url in ("http://a.example/m", "https://u:p@a.example/m", "ftp://a.example"):
        with pytest.raises(ValidationError, match="is a URL like"):
            configured("https://a.example", metadata_url=url)


@pytest.mark.parametrize("issuer", ["https://login.example/{tenantid}/v2.0", "{tenantid}"])
def test_a_template_of_issuers_is_refused_at_the_start(issuer: str) -> None:
    """No token has it as its ``iss``; one that matches any tenant would let any tenant in."""
    for how in ({}, {"discover": False, "jwks_url": "https://login.example/keys"}):
        with pytest.raises(ValidationError, match=r"one \[\[issuers\]\] for each tenant"):
            configured(issuer, **how)


# Entra's sets of keys, in which each key names its issuer.

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
V2 = "https://login.microsoftonline.com/{}/v2.0"


def as_configured(how: str, site: Site, folder: Path, issuer: str, jwk_issuer: object) -> Issuer:
    document = json.dumps({"keys": [{**KEY.jwk(), "issuer": jwk_issuer}]}).encode()
    site.answers["/jwks"] = Answer(document)
    site.answers["/metadata"] = metadata(issuer, f"{site.url}/jwks")
    (folder / "jwks").write_bytes(document)
    settings = {
        "metadata_url": f"{site.url}/metadata",
        "jwks_url": f"{site.url}/jwks",
        "jwks_file": folder / "jwks",
    }
    return configured(issuer, discover=False, **{how: settings[how]})


@pytest.mark.parametrize("how", ["metadata_url", "jwks_url"])
@pytest.mark.parametrize(
    ("issuer", "jwk_issuer"),
    [
        (V2.format(TENANT), V2.format("{tenantid}")),
        (V2.format(TENANT), V2.format("{tenantId}")),
        (V2.format(TENANT), V2.format(TENANT)),
        (f"https://sts.windows.net/{TENANT}/", None),
        # No issuer's URL: a member that is not understood.
        (V2.format(TENANT), "CN=issuer"),
        (V2.format(TENANT), ["https://other.example"]),
        (V2.format(TENANT), ""),
    ],
)
async def test_a_key_that_is_for_the_issuer_verifies(
    site: Site, tmp_path: Path, how: str, issuer: str, jwk_issuer: object
) -> None:
    assert await accepts(as_configured(how, site, tmp_path, issuer, jwk_issuer))


@pytest.mark.parametrize("how", ["metadata_url", "jwks_url"])
@pytest.mark.parametrize(
    ("issuer", "jwk_issuer"),
    [
        (V2.format(TENANT), V2.format(PERSONAL)),
        (V2.format(TENANT), V2.format(TENANT) + "/"),
        (V2.format(f"{TENANT}/more"), V2.format("{tenantid}")),
        (V2.format("?"), V2.format("{tenantid}")),
        (V2.format(""), V2.format("{tenantid}")),
        # Matched as patterns, many of them would take forever.
        (V2.format("a" * 40), V2.format("{tenantid}" * 2)),
        ("https://login.example/v2.0", "https://{tenantid}/v2.0"),
        ("https://loginXmicrosoftonline.com/t/v2.0", V2.format("{tenantid}")),
        (f"https://sts.windows.net/{TENANT}/", V2.format("{tenantid}")),
        ("https://idp.example", "HTTPS://other.example"),
    ],
)
async def test_a_key_for_another_issuer_is_skipped(
    site: Site, tmp_path: Path, how: str, issuer: str, jwk_issuer: str
) -> None:
    source = as_configured(how, site, tmp_path, issuer, jwk_issuer)
    await source.keys.refresh(START)
    keys = source.keys.current(START)
    assert keys.keys == ()
    assert [str(it) for it in keys.skipped] == [f"keys[0] (kid 'k1'): is for issuer {jwk_issuer!r}"]


def test_a_file_is_judged_in_the_same_way(site: Site, tmp_path: Path) -> None:
    as_configured("jwks_file", site, tmp_path, V2.format(TENANT), V2.format("{tenantid}"))
    with pytest.raises(ConfigError, match="is for issuer"):
        as_configured("jwks_file", site, tmp_path, V2.format(TENANT), V2.format(PERSONAL))


async def test_keys_of_others_in_the_same_set_do_not_matter(site: Site, tmp_path: Path) -> None:
    other = signer("k2")
    issuer = V2.format(TENANT)
    keys = [
        {**other.jwk(), "issuer": V2.format(PERSONAL)},
        {**KEY.jwk(), "issuer": V2.format("{tenantid}")},
        {**KEY.jwk(), "kid": "k3", "issuer": {}},
    ]
    site.answers["/jwks"] = Answer(json.dumps({"keys": keys}).encode())
    source = configured(issuer, discover=False, jwks_url=f"{site.url}/jwks")
    assert await accepts(source)
    token = BearerToken(other.token(START, iss=issuer))
    with pytest.raises(AuthError) as caught:
        await JwtVerifier([source]).verify(token, resource=RESOURCE, now=START)
    assert caught.value.reason is Reason.TOKEN_KEY_UNKNOWN


# What operators see.


async def doctor(site: Site) -> list[Finding]:
    values: dict[str, Any] = {"issuers": [{"issuer": site.url, **DISCOVERED}]}
    checks = issuers.checks(Settings(resources=(RESOURCE,), **values))
    return [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]


DISCOVERED = {"algorithms": ["ES256"], "discover": True}
FIRST, SECOND = RFC_8414.format(path=""), OIDC_APPENDED.format(path="")


async def test_doctor_says_what_each_place_answered(site: Site) -> None:
    site.answers[FIRST] = Answer(b"<p>", headers={"Content-Type": "text/html"})
    (found,) = await doctor(site)
    assert found.level is Level.FAIL
    assert found.text == (
        f"{site.url}: no place has its metadata: {site.url}{FIRST}: is not JSON (sent as "
        f"'text/html'); {site.url}{SECOND}: answered 404"
    )
    site.answers[SECOND] = metadata(site.url, f"{site.url}/jwks")
    found, *_ = await doctor(site)
    assert found.level is Level.OK
    assert f"which its metadata at {site.url}{SECOND} names (passed over: {site.url}" in found.text
    site.answers[FIRST] = metadata(site.url, f"{site.url}/jwks")
    found, *_ = await doctor(site)
    assert found.text == (
        f"{site.url}: keys: 1, from {site.url}/jwks, which its metadata at {site.url}{FIRST} names"
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_explain_says_what_each_place_answered(
    site: Site, tmp_path: Path, *, as_json: bool
) -> None:
    site.answers[FIRST] = metadata("https://evil.example/\x1b[2J", f"{site.url}/jwks")
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f'resources = ["{RESOURCE}"]\n[[issuers]]\nissuer = "{site.url}"\n'
        'algorithms = ["ES256"]\ndiscover = true\n'
    )
    options = ["--json"] if as_json else []
    ran = CliRunner().invoke(
        main,
        ["explain", "--config", str(config), "--fetch", *options],
        input=KEY.token(time.time(), iss=site.url),
    )
    assert ran.exit_code == 1
    shown = json.loads(ran.stdout)["key_failures"][site.url] if as_json else ran.stdout
    assert f"{site.url}{FIRST}: is the metadata of issuer 'https://evil.example/" in shown
    assert f"{site.url}{SECOND}: answered 404" in shown
    assert "\x1b" not in ran.stdout
