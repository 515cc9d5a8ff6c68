"""Opaque tokens, introspected at a real endpoint."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from authsvc.common.client_authentication import ClientSecretBasic
from authsvc.common.oauth_endpoint import OAuthEndpoint
from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest
from authsvc.domain.resolution import Actor, Outcome
from authsvc.domain.tokens import BearerToken
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.server.issuers import with_introspection
from authsvc.tokens import introspection
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.introspection import (
    CACHE_SECONDS,
    REJECTION_CACHE_SECONDS,
    RENEWAL_SECONDS,
    IntrospectionVerifier,
)
from authsvc.tokens.introspection_answers import IntrospectedIssuer
from authsvc.tokens.jwt import JwtVerifier
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.http import Answer, Site, serving_http
from tests.support.service import serving, settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ISSUER = "https://opaque.example"
SECRET = "hush: a secret/with+signs"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        yield running


@pytest.fixture
def endpoint(site: Site, tmp_path: Path) -> OAuthEndpoint:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    authentication = ClientSecretBasic("auth svc", file, "introspection.client_secret_file")
    return OAuthEndpoint(f"{site.url}/introspect", authentication, Fetcher())


@pytest.fixture
def verifier(endpoint: OAuthEndpoint) -> IntrospectionVerifier:
    return IntrospectionVerifier(IntrospectedIssuer(ISSUER), endpoint)


def answers(site: Site, **claims: object) -> None:
    """The issuer's response from now on; a claim of None is left out."""
    said = {
        "active": True,
        "sub": "alice",
        "aud": [RESOURCE],
        "exp": START + 600,
        "scope": "a b",
        "client_id": "client",
        "jti": "j1",
        **claims,
    }
    body = json.dumps({name: value for name, value in said.items() if value is not None})
    site.answers["/introspect"] = Answer(body.encode())


async def verdict(
    verifier: IntrospectionVerifier,
    token: str = "opaque",
    *,
    now: float = START,
    resource: str = RESOURCE,
) -> Reason | None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await verifier.verify(BearerToken(token), resource=resource, now=now)
    except AuthError as error:
        return error.reason
    return None


async def test_an_active_token_is_a_principal(site: Site, verifier: IntrospectionVerifier) -> None:
    answers(site, iat=START - 5)
    verified = await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    who = verified.principal
    assert (who.issuer, who.subject, who.client_id) == (ISSUER, "alice", "client")
    assert (who.scopes, who.expire_time) == (("a", "b"), START + 600)
    assert json.loads(who.claims_json)["active"] is True
    assert (verified.issue_time, verified.token_id) == (START - 5, "j1")


async def test_the_response_names_the_provider_session(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    verified = await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    assert verified.provider_session == ""
    answers(site, sid="s1")
    verified = await verifier.verify(BearerToken("opaque-2"), resource=RESOURCE, now=START)
    assert verified.provider_session == session_digest(ISSUER, "s1")
    answers(site, sid=7)
    assert await verdict(verifier, "opaque-3") is Reason.TOKEN_MALFORMED


async def test_the_response_names_the_actor(site: Site, verifier: IntrospectionVerifier) -> None:
    """As in RFC 8693 section 4.1: act is a member of introspection responses, too."""
    answers(site, act={"sub": "agent", "act": {"sub": "first"}})
    verified = await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    assert verified.principal.actor == Actor("agent", actor=Actor("first"))


async def test_the_request_is_as_the_rfc_says(site: Site, verifier: IntrospectionVerifier) -> None:
    answers(site)
    assert await verdict(verifier, "opaque+strange/~==") is None
    ((headers, body),) = site.posted
    assert parse_qs(body) == {"token": ["opaque+strange/~=="], "token_type_hint": ["access_token"]}
    scheme, _, basic = headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(basic) == b"auth+svc:hush%3A+a+secret%2Fwith%2Bsigns"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"active": False}, Reason.TOKEN_INACTIVE),
        ({"aud": None}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": OTHER_RESOURCE}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"exp": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"exp": START - 31}, Reason.TOKEN_EXPIRED),
        ({"nbf": START + 31}, Reason.TOKEN_NOT_YET_VALID),
        ({"sub": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"sub": 7}, Reason.TOKEN_MALFORMED),
        ({"jti": "x" * 1_025}, Reason.TOKEN_TOO_LARGE),
        ({"client_id": "x" * 1_025}, Reason.TOKEN_TOO_LARGE),
        ({"act": "agent"}, Reason.TOKEN_MALFORMED),
        ({"act": {"sub": ""}}, Reason.TOKEN_MALFORMED),
        ({"exp": "soon"}, Reason.TOKEN_MALFORMED),
        ({"iss": "https://evil.example"}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"token_type": "Bearer"}, None),
        ({"token_type": "access_token", "token_use": "access_token"}, None),
        ({"token_type": "refresh_token"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "Bearer", "token_use": "refresh_token"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "DPoP"}, Reason.TOKEN_MALFORMED),
        ({"token_type": ["Bearer"]}, Reason.TOKEN_MALFORMED),
        ({"active": "true"}, Reason.KEYS_UNAVAILABLE),
        ({"active": 1}, Reason.KEYS_UNAVAILABLE),
        ({"active": None}, Reason.KEYS_UNAVAILABLE),
    ],
    ids=repr,
)
async def test_the_result_of_each_response(
    site: Site, verifier: IntrospectionVerifier, claims: dict[str, object], reason: Reason | None
) -> None:
    answers(site, **claims)
    assert await verdict(verifier) is reason


async def test_a_byte_order_mark_is_no_part_of_the_response(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    document = site.answers["/introspect"].body
    site.answers["/introspect"] = Answer(b"\xef\xbb\xbf" + document)
    verified = await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    assert verified.principal.claims_json == document


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(status=401),
        Answer(status=302, headers={"Location": "/other"}),
        Answer(b"not JSON"),
        Answer(b"[]"),
        Answer(b'{"active": true, "active": true}'),
        Answer(b" " * 600_000),
    ],
    ids=["500", "401", "302", "text", "list", "twice", "huge"],
)
async def test_an_outage_is_no_rejection_and_is_not_cached(
    site: Site, verifier: IntrospectionVerifier, answer: Answer
) -> None:
    site.answers["/introspect"] = answer
    assert await verdict(verifier) is Reason.KEYS_UNAVAILABLE
    answers(site)
    assert await verdict(verifier) is None


async def test_an_active_token_is_cached_for_a_while(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    for seconds in (0.0, 1.0, CACHE_SECONDS - RENEWAL_SECONDS - 1):
        assert await verdict(verifier, now=START + seconds) is None
    assert len(site.posted) == 1
    answers(site, active=False)
    assert await verdict(verifier, now=START + CACHE_SECONDS) is Reason.TOKEN_INACTIVE


async def test_a_cached_token_never_outlives_the_token(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site, exp=START - 25)  # within the leeway for five more seconds
    assert await verdict(verifier, now=START) is None
    answers(site, active=False)
    assert await verdict(verifier, now=START + 5) is Reason.TOKEN_INACTIVE


async def test_a_rejection_is_cached_for_a_short_while(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site, active=False)
    for _ in range(20):
        assert await verdict(verifier) is Reason.TOKEN_INACTIVE
    assert len(site.posted) == 1
    answers(site)
    assert await verdict(verifier, now=START + REJECTION_CACHE_SECONDS) is None


async def test_a_cached_rejection_is_small(site: Site, verifier: IntrospectionVerifier) -> None:
    groups = [f"group-{number}" for number in range(5_000)]
    answers(site, aud=["https://elsewhere.example/mcp"], groups=groups)
    assert await verdict(verifier, "first") is Reason.TOKEN_AUDIENCE_MISMATCH
    tracemalloc.start()
    try:
        for number in range(30):
            await verdict(verifier, f"opaque-{number}")
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Neither the issuer's response nor the token.
    assert kept < 30 * 20_000


async def test_a_cached_result_is_for_one_resource(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    assert await verdict(verifier) is None
    assert await verdict(verifier, resource=OTHER_RESOURCE) is Reason.TOKEN_AUDIENCE_MISMATCH


async def test_concurrent_requests_for_one_token_are_one_introspection(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    site.hold.clear()
    asking = [asyncio.create_task(verdict(verifier)) for _ in range(20)]
    assert await asyncio.to_thread(site.arrived.wait, 10)
    asking[0].cancel()
    site.hold.set()
    assert await asyncio.gather(*asking[1:]) == [None] * 19
    assert len(site.posted) == 1


async def test_a_cancelled_request_is_sent_anew(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    """A loop that ends cancels all its tasks, those of the verifier among them."""
    answers(site)
    site.hold.clear()
    asking = asyncio.create_task(verdict(verifier))
    assert await asyncio.to_thread(site.arrived.wait, 10)
    (request,) = (task for task in asyncio.all_tasks() if task.get_name() == "introspect")
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    site.hold.set()
    assert await verdict(verifier) is None
    assert len(site.posted) == 2


async def test_a_verified_token_is_valid_while_its_response_is_cached(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site)
    token = BearerToken("opaque")
    verified = await verifier.verify(token, resource=RESOURCE, now=START)
    assert verifier.is_valid(verified, resource=RESOURCE, now=START)
    assert not verifier.is_valid(verified, resource=OTHER_RESOURCE, now=START)
    assert not verifier.is_valid(replace(verified), resource=RESOURCE, now=START)
    now = START + CACHE_SECONDS
    assert not verifier.is_valid(verified, resource=RESOURCE, now=now)
    again = await verifier.verify(token, resource=RESOURCE, now=now)
    assert verifier.is_valid(again, resource=RESOURCE, now=now)
    assert not verifier.is_valid(verified, resource=RESOURCE, now=now)


async def test_a_token_is_not_valid_before_its_time(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site, nbf=START)
    verified = await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    assert not verifier.is_valid(verified, resource=RESOURCE, now=START - 31)


async def test_the_caches_are_bounded(
    site: Site, verifier: IntrospectionVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier._active._results, "max_entries", 2)
    monkeypatch.setattr(verifier._rejected._results, "max_entries", 2)
    answers(site)
    for token in ("a", "b", "a", "c", "a"):
        assert await verdict(verifier, token) is None
    assert len(site.posted) == 3  # b, used least recently, went for c
    assert await verdict(verifier, "b") is None
    assert len(site.posted) == 4


async def test_a_token_that_is_too_large_is_not_introspected(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    assert await verdict(verifier, "x" * 65537) is Reason.TOKEN_TOO_LARGE
    assert site.posted == []


async def test_neither_token_nor_secret_shows(
    site: Site, verifier: IntrospectionVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for answer in (Answer(status=500), Answer(b"rubbish")):
        site.answers["/introspect"] = answer
        with pytest.raises(AuthError) as caught:
            await verifier.verify(BearerToken("marked-token"), resource=RESOURCE, now=START)
        shown = f"{caught.value} {caught.value.detail} {verifier!r} {caplog.text}"
        assert "marked-token" not in shown
        assert "hush" not in shown


@pytest.mark.parametrize(
    "token", ["a b", "a\x00", "a\n", "a&active=true", "a=b", "\u00e4", "\ud800", "=", "a,b"]
)
async def test_a_token_that_no_header_can_hold_is_not_introspected(
    site: Site, verifier: IntrospectionVerifier, token: str
) -> None:
    answers(site)
    assert await verdict(verifier, token) is Reason.TOKEN_MALFORMED
    assert site.posted == []


async def test_a_cached_token_never_outlives_exp(
    site: Site, verifier: IntrospectionVerifier
) -> None:
    answers(site, exp=START + 10)
    assert await verdict(verifier, now=START) is None
    assert await verdict(verifier, now=START + 9) is None
    assert len(site.posted) == 1
    # Its clock may be behind ours: within the leeway, each request is introspected.
    assert await verdict(verifier, now=START + 10) is None
    assert len(site.posted) == 2
    answers(site, active=False)
    assert await verdict(verifier, now=START + 11) is Reason.TOKEN_INACTIVE


async def test_rejections_do_not_evict_active_tokens(
    site: Site, verifier: IntrospectionVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier._active._results, "max_entries", 2)
    monkeypatch.setattr(verifier._rejected._results, "max_entries", 2)
    answers(site)
    assert await verdict(verifier, "good") is None
    answers(site, active=False)
    for number in range(5):
        assert await verdict(verifier, f"bad-{number}") is Reason.TOKEN_INACTIVE
    assert await verdict(verifier, "bad-4") is Reason.TOKEN_INACTIVE
    assert await verdict(verifier, "good") is None
    assert len(site.posted) == 6


async def test_a_flood_is_not_passed_on(
    site: Site, verifier: IntrospectionVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "MAX_CONCURRENT_REQUESTS", 3)
    answers(site)
    assert await verdict(verifier, "known") is None
    site.hold.clear()
    asking = [asyncio.create_task(verdict(verifier, f"flood-{n % 30}")) for n in range(60)]
    done, waiting = await asyncio.wait(
        asking, timeout=TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    while len(waiting) > 6:
        more, waiting = await asyncio.wait(
            waiting, timeout=TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        assert more
        done |= more
    assert {task.result() for task in done} == {Reason.KEYS_UNAVAILABLE}
    # Cached tokens are not affected.
    assert await verdict(verifier, "known") is None
    site.hold.set()
    assert {await task for task in waiting} == {None}
    assert len(site.posted) == 4
    assert await verdict(verifier, "flood-29") is None


async def test_audiences_are_as_configured(site: Site, endpoint: OAuthEndpoint) -> None:
    issuer = IntrospectedIssuer(ISSUER, audiences=Audiences({RESOURCE: ("api://buckets",)}))
    verifier = IntrospectionVerifier(issuer, endpoint)
    answers(site, aud="api://buckets")
    assert await verdict(verifier) is None
    assert await verdict(verifier, resource=OTHER_RESOURCE) is Reason.TOKEN_AUDIENCE_MISMATCH
    answers(site, aud=RESOURCE)
    assert await verdict(verifier, "other") is Reason.TOKEN_AUDIENCE_MISMATCH


def test_the_endpoint_is_https(tmp_path: Path) -> None:
    authentication = ClientSecretBasic("c", tmp_path, "introspection.client_secret_file")
    with pytest.raises(FetchError):
        OAuthEndpoint("http://idp.example/introspect", authentication, Fetcher())


async def test_a_service_takes_both_kinds(
    site: Site, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    answers(site, sub="opaque-alice")
    (tmp_path / "client-secret").write_text(SECRET)
    settings = settings_for(
        tmp_path,
        idp,
        introspection={
            "issuer": ISSUER,
            "endpoint": f"{site.url}/introspect",
            "client_id": "authsvc",
            "client_secret_file": tmp_path / "client-secret",
        },
    )
    async with serving(settings, clock) as service:
        answer = await service.client.resolve("s", "opaque", resource=RESOURCE, create=True)
        assert answer.principal is not None
        assert answer.principal.subject == "opaque-alice"
        again = await service.client.resolve("s", "opaque", resource=RESOURCE)
        assert again.outcome is Outcome.REUSED
        jwt = await service.client.resolve("", idp.token("alice"), resource=RESOURCE)
        assert jwt.principal is not None
        assert jwt.principal.issuer == idp.issuer
        assert len(site.posted) == 1
        # A secret that cannot be read is a fault of authsvc, not of the client.
        (tmp_path / "client-secret").unlink()
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("t", "other", resource=RESOURCE, create=True)
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE


async def test_a_service_takes_opaque_tokens_alone(
    site: Site, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    answers(site, aud="api://buckets")
    (tmp_path / "client-secret").write_text(SECRET)
    settings = settings_for(
        tmp_path,
        idp,
        issuers=[],
        introspection={
            "issuer": ISSUER,
            "endpoint": f"{site.url}/introspect",
            "client_id": "authsvc",
            "client_secret_file": tmp_path / "client-secret",
            "audiences": {RESOURCE: ["api://buckets"]},
        },
    )
    async with serving(settings, clock) as service:
        answer = await service.client.resolve("", "opaque", resource=RESOURCE)
        assert answer.principal is not None
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("", idp.token(), resource=RESOURCE)
        assert caught.value.reason is Reason.TOKEN_ISSUER_UNKNOWN


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_an_invalid_secret_stops_the_start(
    tmp_path: Path, idp: IdentityProvider, content: str | None
) -> None:
    path = tmp_path / "client-secret"
    if content is not None:
        path.write_text(content)
    settings = settings_for(
        tmp_path,
        idp,
        introspection={
            "issuer": ISSUER,
            "endpoint": "https://idp.example/introspect",
            "client_id": "authsvc",
            "client_secret_file": path,
        },
    )
    with pytest.raises(ConfigError, match=r"introspection\.client_secret_file: .*client-secret"):
        with_introspection(JwtVerifier([]), settings)


@pytest.fixture
async def renewed(site: Site, verifier: IntrospectionVerifier) -> float:
    """When an active token is requested anew: its first response is cached."""
    answers(site)
    assert await verdict(verifier) is None
    site.arrived.clear()
    site.hold.clear()
    return START + CACHE_SECONDS - RENEWAL_SECONDS


async def finish(site: Site) -> None:
    """Let the request in the background be answered, and wait for it."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "introspect"]
    site.hold.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_token_in_use_does_not_wait_for_its_renewal(
    site: Site, verifier: IntrospectionVerifier, renewed: float
) -> None:
    token = BearerToken("opaque")
    before = verifier.cached(token, resource=RESOURCE, now=renewed - 1)
    assert before is not None
    assert verifier.is_valid(before, resource=RESOURCE, now=renewed - 1)
    assert not verifier.is_valid(before, resource=RESOURCE, now=renewed)
    for _ in range(3):
        assert verifier.cached(token, resource=RESOURCE, now=renewed) is before
        assert verifier.is_valid(before, resource=RESOURCE, now=renewed)
    await finish(site)
    assert len(site.posted) == 2
    assert await verdict(verifier, now=renewed + CACHE_SECONDS - RENEWAL_SECONDS - 1) is None
    assert not verifier.is_valid(before, resource=RESOURCE, now=renewed + 1)
    assert len(site.posted) == 2


async def test_a_renewal_that_says_inactive_takes_effect_at_once(
    site: Site, verifier: IntrospectionVerifier, renewed: float
) -> None:
    assert await verdict(verifier, now=renewed) is None
    answers(site, active=False)
    await finish(site)
    assert await verdict(verifier, now=renewed) is Reason.TOKEN_INACTIVE


async def test_a_renewal_that_fails_leaves_the_response_until_its_end(
    site: Site, verifier: IntrospectionVerifier, renewed: float
) -> None:
    assert await verdict(verifier, now=renewed) is None
    site.answers["/introspect"] = Answer(b"", 429, {"Retry-After": "20"})
    await finish(site)
    assert await verdict(verifier, now=renewed + RENEWAL_SECONDS - 1) is None
    assert await verdict(verifier, now=renewed + RENEWAL_SECONDS) is Reason.KEYS_UNAVAILABLE
    assert len(site.posted) == 2


async def test_no_more_is_renewed_than_may_be_asked(
    site: Site,
    verifier: IntrospectionVerifier,
    renewed: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(introspection, "MAX_CONCURRENT_REQUESTS", 0)
    assert await verdict(verifier, now=renewed) is None
    assert await verdict(verifier, now=renewed + RENEWAL_SECONDS) is Reason.KEYS_UNAVAILABLE
    assert len(site.posted) == 1


async def test_nothing_is_renewed_while_the_endpoint_asks_to_wait(
    site: Site, verifier: IntrospectionVerifier, renewed: float
) -> None:
    site.hold.set()
    assert await verdict(verifier, "other") is None
    site.answers["/introspect"] = Answer(b"", 503, {"Retry-After": "20"})
    assert await verdict(verifier, now=renewed) is None
    await finish(site)
    assert await verdict(verifier, "other", now=renewed) is None
    await finish(site)
    assert len(site.posted) == 3
