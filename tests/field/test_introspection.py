"""Introspection as issuers answer it, and tokens in the shape of a JWT that are introspected."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from authsvc.admin.issuers import IssuerWatch, WatchedIssuer
from authsvc.diagnosis import Finding, Level, diagnose, introspection
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Outcome, Principal
from authsvc.domain.tokens import BearerToken
from authsvc.server.config import ExchangeSettings, Settings
from authsvc.server.config.credentials import CredentialSettings
from authsvc.server.issuers import issuer_of, with_introspection
from authsvc.tokens import TokenVerifier
from authsvc.tokens.introspection import CACHE_SECONDS, RENEWAL_SECONDS
from authsvc.tokens.introspection_answers import MAX_DEFAULT_SECONDS
from authsvc.tokens.jwt import JwtVerifier
from authsvc.tokens.keys import KeySet
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.http import Answer, Site, serving_http
from tests.support.service import serving, settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ISSUER = "https://introspected.example"
SECRET = "the secret"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        answers(running)
        yield running


def answers(site: Site, **changes: object) -> None:
    """The issuer's response from now on; a member of ... is left out."""
    said = {"active": True, "sub": "alice", "aud": RESOURCE, "exp": START + 600, **changes}
    body = json.dumps({name: value for name, value in said.items() if value is not ...})
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    site.answers["/introspect"] = Answer(body.encode(), headers=headers)


def configured(folder: Path, idp: IdentityProvider, site: Site, **changes: object) -> Settings:
    secret = folder / "client-secret"
    secret.write_text(SECRET)
    table: dict[str, Any] = {
        "issuer": ISSUER,
        "endpoint": f"{site.url}/introspect",
        "client_id": "authsvc",
        "client_secret_file": secret,
        **changes,
    }
    return settings_for(folder, idp, introspection=table)


def verifier_of(settings: Settings) -> TokenVerifier:
    return with_introspection(JwtVerifier(map(issuer_of, settings.issuers)), settings)


@pytest.fixture
def verifier(tmp_path: Path, idp: IdentityProvider, site: Site) -> TokenVerifier:
    return verifier_of(configured(tmp_path, idp, site))


async def outcome(
    verifier: TokenVerifier,
    token: str = "opaque",
    *,
    now: float = START,
    resource: str = RESOURCE,
) -> Principal | AuthError:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            verified = await verifier.verify(BearerToken(token), resource=resource, now=now)
    except AuthError as error:
        return error
    return verified.principal


async def verdict(
    verifier: TokenVerifier,
    token: str = "opaque",
    *,
    now: float = START,
    resource: str = RESOURCE,
) -> Reason | None:
    found = await outcome(verifier, token, now=now, resource=resource)
    return found.reason if isinstance(found, AuthError) else None


def shaped(payload: bytes, header: bytes = b'{"alg":"none"}', signature: bytes = b"") -> str:
    """A token in the shape of a JWT."""
    segments = (header, payload, signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in segments)


def naming(issuer: object) -> str:
    return shaped(json.dumps({"iss": issuer, "sub": "x"}).encode(), signature=b"made up")


# Which tokens are introspected


@pytest.mark.parametrize(
    "token",
    [
        naming(ISSUER),
        naming(f"{ISSUER}/"),
        naming(None),
        shaped(b'{"sub":"x"}'),
        shaped(b"no claims"),
        shaped(b"[]"),
        shaped(b'{"iss":"https://a.example","iss":"https://b.example"}'),
        "three.opaque.segments",
        "..",
        "opaque",
        "a.b.c.d.e",
    ],
)
async def test_with_all_whatever_names_no_other_issuer_is_introspected(
    tmp_path: Path, idp: IdentityProvider, site: Site, token: str
) -> None:
    settings = configured(tmp_path, idp, site, tokens="all")
    verifier = verifier_of(settings)
    found = await outcome(verifier, token)
    assert isinstance(found, Principal)
    assert (found.issuer, found.subject) == (ISSUER, "alice")
    presented = BearerToken(token)
    cached = verifier.cached(presented, resource=RESOURCE, now=START)
    assert cached is not None
    assert verifier.is_valid(cached, resource=RESOURCE, now=START)
    assert len(site.posted) == 1
    answers(site, active=False)
    assert await verdict(verifier, token, now=START + CACHE_SECONDS) is Reason.TOKEN_INACTIVE


async def test_by_default_a_token_in_the_shape_of_a_jwt_is_not_introspected(
    verifier: TokenVerifier, site: Site
) -> None:
    assert await verdict(verifier, naming(ISSUER)) is Reason.TOKEN_ISSUER_UNKNOWN
    assert await verdict(verifier, shaped(b"no claims")) is Reason.TOKEN_MALFORMED
    assert site.posted == []


async def test_tokens_of_other_issuers_go_by_keys(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    """Also those that keys reject: introspection is no second chance."""
    verifier = verifier_of(configured(tmp_path, idp, site, tokens="all"))
    found = await outcome(verifier, idp.token("bob"))
    assert isinstance(found, Principal)
    assert (found.issuer, found.subject) == (idp.issuer, "bob")
    claims = json.dumps({"iss": idp.issuer, "sub": "bob"}).encode()
    zipped = jwt.encode({"iss": idp.issuer}, idp.secret, "HS256", {"zip": "DEF"})
    for token, reason in (
        (idp.forged(), Reason.TOKEN_SIGNATURE_INVALID),
        (shaped(claims), Reason.TOKEN_ALGORITHM_REFUSED),
        (shaped(claims, b"no header"), Reason.TOKEN_MALFORMED),
        (shaped(claims, b'{"alg":"RS256"}'), Reason.TOKEN_ALGORITHM_REFUSED),
        (zipped, Reason.TOKEN_MALFORMED),
        (idp.token(ttl_seconds=-60), Reason.TOKEN_EXPIRED),
        (idp.token(aud=OTHER_RESOURCE), Reason.TOKEN_AUDIENCE_MISMATCH),
        (naming("https://unknown.example"), Reason.TOKEN_ISSUER_UNKNOWN),
        (naming(["x"]), Reason.TOKEN_MALFORMED),
    ):
        assert await verdict(verifier, token) is reason
    assert site.posted == []


async def test_a_response_makes_a_principal_of_its_own_issuer_alone(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, tokens="all"))
    answers(site, iss=idp.issuer)
    for token in ("opaque", naming(ISSUER), shaped(b'{"iss":"x","iss":"y"}')):
        assert await verdict(verifier, token) is Reason.TOKEN_ISSUER_UNKNOWN


async def test_a_token_that_is_too_large_is_not_read(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, tokens="all"))
    for token in (f"{'a' * 70_000}.b.c", "é.b.c"):
        assert await verdict(verifier, token) in {Reason.TOKEN_TOO_LARGE, Reason.TOKEN_MALFORMED}
    assert site.posted == []


async def test_one_issuer_in_both_tables_with_opaque(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    settings = configured(tmp_path, idp, site, issuer=idp.issuer, tokens="opaque")
    verifier = verifier_of(settings)
    assert await verdict(verifier, idp.token()) is None
    assert site.posted == []
    assert await verdict(verifier, idp.forged()) is Reason.TOKEN_SIGNATURE_INVALID
    found = await outcome(verifier, "opaque")
    assert isinstance(found, Principal)
    assert found.issuer == idp.issuer
    assert len(site.posted) == 1


@pytest.mark.parametrize("slash", ["", "/"])
def test_one_issuer_in_both_tables_needs_to_say_which_tokens_go_where(
    tmp_path: Path, idp: IdentityProvider, site: Site, slash: str
) -> None:
    with pytest.raises(ValidationError, match=r"introspection\.tokens = 'opaque'"):
        configured(tmp_path, idp, site, issuer=idp.issuer + slash)
    with pytest.raises(ValidationError, match="leaves no tokens"):
        configured(tmp_path, idp, site, issuer=idp.issuer + slash, tokens="all")


def test_one_issuer_in_both_tables_has_one_name(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    """Otherwise a user with both kinds of token would be two subjects."""
    with pytest.raises(ValidationError, match="differ in the slash at the end"):
        configured(tmp_path, idp, site, issuer=f"{idp.issuer}/", tokens="opaque")


# What an answer may look like


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "Bearer"},
        {"token_type": "bearer"},
        {"token_type": "BEARER"},
        {"token_type": "access_token"},
        {"token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"token_type": None, "token_use": None},
        {"token_use": "access"},
        {"typ": "Bearer"},
        {"typ": "at+jwt"},
        {"iss": ISSUER},
        {"iss": f"{ISSUER}/"},
        {"iss": None},
        {"aud": [RESOURCE, "other"]},
        {"exp": str(int(START + 600))},
        {"exp": f"{START + 600:.3f}", "iat": f"{START:.0f}", "nbf": "0"},
        {"exp": START + 600.5, "nbf": None, "iat": None, "jti": None},
        {"scope": None, "client_id": None, "username": None, "realm_access": None},
        {"ext": {"deep": [1, {"x": None}]}, "permissions": [], "roles": []},
    ],
    ids=str,
)
async def test_answers_that_are_accepted(
    verifier: TokenVerifier, site: Site, changes: dict[str, object]
) -> None:
    answers(site, **changes)
    found = await outcome(verifier)
    assert isinstance(found, Principal)
    assert (found.issuer, found.subject) == (ISSUER, "alice")
    assert START + 600 <= found.expire_time < START + 601


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active": False}, Reason.TOKEN_INACTIVE),
        ({"active": "true"}, Reason.KEYS_UNAVAILABLE),
        ({"active": "false"}, Reason.KEYS_UNAVAILABLE),
        ({"active": 1}, Reason.KEYS_UNAVAILABLE),
        ({"active": None}, Reason.KEYS_UNAVAILABLE),
        ({"active": ...}, Reason.KEYS_UNAVAILABLE),
        ({"token_type": "DPoP"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "mtls"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "Bearer", "cnf": {"x5t#S256": "AA"}}, Reason.TOKEN_MALFORMED),
        ({"token_type": "PoP"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "refresh_token"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "N_A"}, Reason.TOKEN_MALFORMED),
        ({"token_type": "Bearer", "typ": "Refresh"}, Reason.TOKEN_MALFORMED),
        ({"typ": "ID"}, Reason.TOKEN_MALFORMED),
        ({"cnf": {"jkt": "AA"}}, Reason.TOKEN_MALFORMED),
        ({"cnf": {"x5t#S256": "AA"}, "token_type": "Bearer"}, Reason.TOKEN_MALFORMED),
        ({"typ": "Offline"}, Reason.TOKEN_MALFORMED),
        ({"iss": f"{ISSUER}//"}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": f"{ISSUER}/realm"}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": ""}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": [ISSUER]}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"aud": ...}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": None}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": []}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": ""}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": {}}, Reason.TOKEN_MALFORMED),
        ({"exp": ...}, Reason.TOKEN_CLAIM_MISSING),
        ({"exp": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"exp": 0}, Reason.TOKEN_EXPIRED),
        ({"exp": "0"}, Reason.TOKEN_EXPIRED),
        ({"exp": ""}, Reason.TOKEN_MALFORMED),
        ({"exp": "-1"}, Reason.TOKEN_MALFORMED),
        ({"exp": "1e12"}, Reason.TOKEN_MALFORMED),
        ({"exp": "٣٣٣٣٣٣٣٣٣٣"}, Reason.TOKEN_MALFORMED),
        ({"exp": "1800000600 "}, Reason.TOKEN_MALFORMED),
        ({"exp": "1800000600000"}, Reason.TOKEN_MALFORMED),
        ({"exp": True}, Reason.TOKEN_MALFORMED),
        ({"exp": "2027-01-15T08:10:00Z"}, Reason.TOKEN_MALFORMED),
        ({"nbf": str(int(START + 60))}, Reason.TOKEN_NOT_YET_VALID),
        ({"iat": str(int(START + 60))}, Reason.TOKEN_NOT_YET_VALID),
    ],
    ids=str,
)
async def test_answers_that_are_rejected(
    verifier: TokenVerifier, site: Site, changes: dict[str, object], reason: Reason
) -> None:
    answers(site, **changes)
    assert await verdict(verifier) is reason


async def test_answers_without_aud_by_a_setting(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, audience_optional=True))
    for number, absent in enumerate((..., None)):
        answers(site, aud=absent, token_type="Bearer")
        assert await verdict(verifier, f"t{number}") is None
        assert await verdict(verifier, f"t{number}", resource=OTHER_RESOURCE) is None
    # One that is there has to be right.
    for number, aud in enumerate((OTHER_RESOURCE, [], "", [OTHER_RESOURCE, ISSUER])):
        answers(site, aud=aud)
        assert await verdict(verifier, f"u{number}") is Reason.TOKEN_AUDIENCE_MISMATCH
    answers(site, aud=..., exp=...)
    assert await verdict(verifier, "v") is Reason.TOKEN_CLAIM_MISSING


WITHOUT_AUD: Sequence[dict[str, object]] = (
    {"audience_optional": True},
    {"client_ids": ["app1"]},
    {"client_ids": {RESOURCE: ["app1"]}},
)


@pytest.mark.parametrize("settings", WITHOUT_AUD, ids=str)
async def test_answers_without_aud_name_an_access_token(
    tmp_path: Path, idp: IdentityProvider, site: Site, settings: dict[str, object]
) -> None:
    """Those that name neither are also given for refresh tokens."""
    verifier = verifier_of(configured(tmp_path, idp, site, **settings))
    kinds = ({"token_type": "Bearer"}, {"token_use": "access_token"}, {"typ": "Bearer"})
    for number, kind in enumerate(kinds):
        answers(site, aud=..., client_id="app1", **kind)
        assert await verdict(verifier, f"t{number}") is None
    others: Sequence[dict[str, object]]
    others = ({}, {"token_type": None}, {"token_type": ""}, {"typ": "JWT"})
    for number, other in enumerate(others):
        answers(site, aud=..., client_id="app1", **other)
        found = await outcome(verifier, f"u{number}")
        assert isinstance(found, AuthError)
        assert found.reason is Reason.TOKEN_MALFORMED
        assert found.setting == "introspection.token_type_optional"
    verifier = verifier_of(configured(tmp_path, idp, site, token_type_optional=True, **settings))
    answers(site, aud=..., client_id="app1")
    assert await verdict(verifier) is None
    answers(site, aud=..., client_id="app1", token_type="refresh_token")
    assert await verdict(verifier, "another") is Reason.TOKEN_MALFORMED


async def test_an_answer_for_a_token_that_is_bound_to_a_certificate(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, allow_certificate_bound=True))
    answers(site, cnf={"x5t#S256": "AA"}, token_type="Bearer")
    assert await verdict(verifier) is None
    answers(site, cnf={"jkt": "AA"})
    assert await verdict(verifier, "another") is Reason.TOKEN_MALFORMED


def test_token_type_optional_needs_answers_without_aud(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    with pytest.raises(ValidationError, match=r"token_type_optional\s+has no effect"):
        configured(tmp_path, idp, site, token_type_optional=True)


async def test_answers_without_exp_by_a_setting(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, expiry_optional=True))
    for number, exp in enumerate((..., None)):
        answers(site, exp=exp)
        found = await outcome(verifier, f"t{number}")
        assert isinstance(found, Principal)
        assert found.expire_time == START + 240
    answers(site, exp=START - 60)
    assert await verdict(verifier, "u") is Reason.TOKEN_EXPIRED
    answers(site, aud=..., exp=...)
    assert await verdict(verifier, "v") is Reason.TOKEN_AUDIENCE_MISMATCH


async def test_an_answer_without_exp_is_asked_again(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    verifier = verifier_of(configured(tmp_path, idp, site, expiry_optional=True))
    answers(site, exp=...)
    for number in range(4):
        now = START + number * CACHE_SECONDS
        for within in (0.0, CACHE_SECONDS - RENEWAL_SECONDS - 1):
            found = await outcome(verifier, now=now + within)
            assert isinstance(found, Principal)
            assert 180 < found.expire_time - now <= MAX_DEFAULT_SECONDS
        assert len(site.posted) == number + 1
    answers(site, active=False)
    assert await verdict(verifier, now=START + 4 * CACHE_SECONDS) is Reason.TOKEN_INACTIVE


async def test_a_session_and_its_credentials_by_a_token_without_exp(
    tmp_path: Path, idp: IdentityProvider, site: Site, clock: Clock
) -> None:
    """They go on while the issuer says active, and end with its answer, or with its silence."""
    settings = configured(tmp_path, idp, site, expiry_optional=True)
    exchange = ExchangeSettings.model_validate(
        {
            "issuers": [ISSUER],
            "endpoint": f"{site.url}/token",
            "client_id": "authsvc",
            "client_secret_file": tmp_path / "client-secret",
        }
    )
    credentials = CredentialSettings(exchange=(exchange,))
    settings = settings.model_copy(update={"credentials": credentials})
    site.answers["/token"] = Answer(b'{"access_token":"the-apis","token_type":"Bearer"}')
    answers(site, exp=...)
    async with serving(settings, clock) as service:
        outcomes = []
        for _ in range(25):
            found = await service.client.resolve("s", "opaque", resource=RESOURCE, create=True)
            assert found.principal is not None
            assert isinstance(found.credentials, BearerCredentials)
            assert clock.now < found.principal.expire_time <= clock.now + MAX_DEFAULT_SECONDS
            assert clock.now < found.credentials.expire_time <= found.principal.expire_time
            outcomes.append(found.outcome)
            clock.advance(CACHE_SECONDS)
        assert outcomes == [Outcome.CREATED] + [Outcome.REUSED] * 24
        site.answers["/introspect"] = Answer(status=500)
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("s", "opaque", resource=RESOURCE)
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE
        answers(site, active=False)
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("s", "opaque", resource=RESOURCE)
        assert caught.value.reason is Reason.TOKEN_INACTIVE


def test_an_issuer_in_both_tables_is_reported_once() -> None:
    keys = WatchedIssuer(ISSUER, "jwks_file", KeySet((), algorithms=frozenset({"ES256"})))
    for introspected, names in ((ISSUER, [ISSUER]), ("other", [ISSUER, "other"]), ("", [ISSUER])):
        status = IssuerWatch([keys], introspected).status(START)
        assert [issuer.issuer for issuer in status] == names


# What goes wrong at the endpoint


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b""),
        (401, b'{"error":"invalid_client"}'),
        (400, b'{"error":"invalid_client"}'),
        (403, b""),
        (403, b'{"error":"insufficient_scope"}'),
        (403, b'{"error":"invalid_client"}'),
    ],
)
async def test_a_rejected_client_is_named_in_the_log(
    verifier: TokenVerifier,
    site: Site,
    status: int,
    body: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.answers["/introspect"] = Answer(body, status)
    for number in range(3):
        assert await verdict(verifier, f"t{number}") is Reason.KEYS_UNAVAILABLE
    (record,) = [item for item in caplog.records if item.levelname == "ERROR"]
    for name in ("client_id", "auth_method", "client_secret_file"):
        assert f"introspection.{name}" in record.getMessage()
    assert str(status) in record.getMessage()
    assert SECRET not in caplog.text
    caplog.clear()
    caplog.set_level("INFO")
    answers(site)
    assert await verdict(verifier) is None
    assert await verdict(verifier, "another") is None
    assert caplog.text.count("introspection works again") == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", 401),
        Answer(b'{"error":"server_error"}', 500),
        Answer(b"", 302, {"Location": "/"}),
        Answer(b"", 429, {"Retry-After": "9"}),
        Answer(b"x" * 600_000),
        Answer(b"x", headers={"Content-Encoding": "br"}),
    ],
    ids=lambda it: str(it.status),
)
async def test_the_query_of_the_endpoint_is_not_shown(
    tmp_path: Path,
    idp: IdentityProvider,
    site: Site,
    answer: Answer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Gateways take keys in it, such as ``subscription-key``."""
    caplog.set_level("INFO", "authsvc")
    path = "/introspect?subscription-key=hush"
    verifier = verifier_of(configured(tmp_path, idp, site, endpoint=f"{site.url}{path}"))
    site.answers[path] = answer
    errors = [await outcome(verifier, token) for token in ("one", "two")]
    answers(site)
    site.answers[path] = site.answers["/introspect"]
    assert isinstance(await outcome(verifier, "three", now=START + 60), Principal)
    for error in errors:
        assert isinstance(error, AuthError)
        assert f"{site.url}/introspect?..." in error.detail
        assert "hush" not in f"{error.detail} {caplog.text}"
    assert f"works again: {site.url}/introspect?..." in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"error":"invalid_request"}', Reason.KEYS_UNAVAILABLE),
        (400, b"", Reason.KEYS_UNAVAILABLE),
        (400, b'{"error":"invalid_token"}', Reason.TOKEN_INACTIVE),
        (401, b'{"error":"invalid_token"}', Reason.KEYS_UNAVAILABLE),
        (400, b'{"error":"unsupported_token_type"}', Reason.TOKEN_INACTIVE),
        (503, b'{"error":"unsupported_token_type"}', Reason.KEYS_UNAVAILABLE),
        (403, b"<html>", Reason.KEYS_UNAVAILABLE),
        (403, b'{"error":"insufficient_scope"}', Reason.KEYS_UNAVAILABLE),
        (404, b"", Reason.KEYS_UNAVAILABLE),
        (500, b'{"active":true}', Reason.KEYS_UNAVAILABLE),
        (204, b"", Reason.KEYS_UNAVAILABLE),
    ],
)
async def test_other_statuses(
    verifier: TokenVerifier, site: Site, status: int, body: bytes, reason: Reason
) -> None:
    site.answers["/introspect"] = Answer(body, status)
    found = await outcome(verifier)
    assert isinstance(found, AuthError)
    assert found.reason is reason
    assert str(status) in found.detail
    if body.startswith(b'{"error"'):
        assert json.loads(body)["error"] in found.detail


@pytest.mark.parametrize("status", [429, 503])
async def test_an_endpoint_that_asks_to_wait_is_left_alone(
    verifier: TokenVerifier, site: Site, status: int
) -> None:
    assert await verdict(verifier, "cached") is None
    site.answers["/introspect"] = Answer(b"", status, {"Retry-After": "7"})
    first = await outcome(verifier)
    later = await outcome(verifier, "other", now=START + 3)
    for error, seconds in ((first, 7.0), (later, 4.0)):
        assert isinstance(error, AuthError)
        assert error.reason is Reason.KEYS_UNAVAILABLE
        assert error.retry_after_seconds == seconds
    assert await verdict(verifier, "cached", now=START + 3) is None
    assert len(site.posted) == 2
    answers(site)
    assert await verdict(verifier, "other", now=START + 7) is None


async def test_a_clock_that_is_set_back_makes_the_pause_no_longer(
    verifier: TokenVerifier, site: Site
) -> None:
    site.answers["/introspect"] = Answer(b"", 429, {"Retry-After": "7"})
    assert await verdict(verifier) is Reason.KEYS_UNAVAILABLE
    answers(site)
    assert await verdict(verifier, now=START - 3_600) is None


async def diagnosis(settings: Settings) -> Finding:
    checks = introspection.checks(settings)
    (finding,) = [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]
    return finding


async def test_doctor_asks_whether_it_may_ask(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    settings = configured(tmp_path, idp, site)
    site.answers["/introspect"] = Answer(b'{"active": false}')
    works = await diagnosis(settings)
    assert (works.level, works.subject) == (Level.OK, "introspection")
    ((_, asked),) = site.posted
    assert "token=authsvc-doctor" in asked

    site.answers["/introspect"] = Answer(b'{"error": "invalid_client"}', status=401)
    refused = await diagnosis(settings)
    assert (refused.level, "invalid_client" in refused.text) == (Level.FAIL, True)
    assert "introspection.client_id" in refused.remedy

    answers(site)
    careless = await diagnosis(settings)
    assert (careless.level, "that is no token" in careless.text) == (Level.FAIL, True)
    answers(site, sub=...)
    assert await diagnosis(settings) == careless


def test_doctor_leaves_out_what_is_not_configured(tmp_path: Path, idp: IdentityProvider) -> None:
    assert introspection.checks(settings_for(tmp_path, idp)) == []


async def test_an_id_token_is_named_before_its_audience(
    verifier: TokenVerifier, site: Site
) -> None:
    """As for JWTs: no setting should make the client of an ID token an audience."""
    answers(site, aud="the client", at_hash="AA")
    refused = await outcome(verifier)
    assert isinstance(refused, AuthError)
    assert (refused.reason, refused.setting) == (Reason.TOKEN_MALFORMED, "")
    answers(site, aud="the client")
    other = await outcome(verifier, "other")
    assert isinstance(other, AuthError)
    assert other.reason is Reason.TOKEN_AUDIENCE_MISMATCH
