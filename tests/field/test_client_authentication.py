"""Client authentication by certificates and kept assertions, at both kinds of endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from authsvc.common.client_authentication import ASSERTION_TYPE, SPIFFE_ASSERTION_TYPE
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Finding, Level, diagnose, introspection, service
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret
from authsvc.domain.tokens import BearerToken
from authsvc.net.certificates import SignedCertificate
from authsvc.server.brokers import open_broker
from authsvc.server.clients import endpoint_of
from authsvc.server.config import (
    ApiServerSettings,
    ExchangeSettings,
    IntrospectionSettings,
    Settings,
)
from authsvc.server.issuers import with_introspection
from authsvc.tokens.jwt import JwtVerifier
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, serving_http
from tests.support.https import PrivateAuthority, TlsSite, alerting, serving_https
from tests.support.nginx import LISTENS, nginx
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ALICE = Principal(ISSUER, "alice", START + 6_000)
KEY = generate_private_key(SECP256R1())
EXCHANGE, INTROSPECTION = "credentials.exchange", "introspection"
BY_TLS = pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])


@pytest.fixture
def authority(tmp_path: Path) -> PrivateAuthority:
    return PrivateAuthority(tmp_path)


@pytest.fixture
async def site(authority: PrivateAuthority) -> AsyncIterator[TlsSite]:
    """A server that requires a client's certificate, and answers both kinds of request."""
    async with serving_https(authority.demanding()) as running:
        running.answers["/token"] = json.dumps(
            {"access_token": "the-apis-token", "token_type": "Bearer", "expires_in": 3600}
        ).encode()
        running.answers["/introspect"] = b'{"active":false}'
        yield running


def certified(authority: PrivateAuthority, signed: SignedCertificate) -> dict[str, object]:
    """Settings that present a certificate, which is in one file with its key."""
    file = authority.folder / "client.pem"
    file.write_bytes(signed.key_pem() + signed.certificate_pem())
    return {
        "client_id": "authsvc",
        "auth_method": "tls_client_auth",
        "ca_file": authority.file(),
        "client_certificate_file": file,
        "client_certificate_key_file": file,
    }


def kept(folder: Path, expires: float, **more: object) -> dict[str, object]:
    """Settings that send an assertion of a file."""
    (folder / "assertion").write_text(
        jwt.encode({"sub": "system:serviceaccount:authsvc:authsvc", "exp": expires}, KEY, "ES256")
    )
    return {
        "auth_method": "client_assertion_file",
        "client_assertion_file": folder / "assertion",
        **more,
    }


def configured(folder: Path, idp: IdentityProvider, url: str, **table: object) -> Settings:
    """Settings with the same table for both endpoints."""
    exchange: dict[str, Any] = {"issuers": (ISSUER,), "endpoint": f"{url}/token", **table}
    asked = {"issuer": "https://introspected.example", "endpoint": f"{url}/introspect", **table}
    return settings_for(folder, idp, credentials={"exchange": [exchange]}, introspection=asked)


async def exchanged(settings: Settings, now: float = START) -> None:
    async with open_broker(settings) as broker, asyncio.timeout(TIMEOUT_SECONDS):
        assert broker is not None
        await broker.issue(ALICE, token=Secret("the.clients.token"), resource=RESOURCE, now=now)


async def introspected(settings: Settings, now: float = START) -> Reason:
    verifier = with_introspection(JwtVerifier([]), settings)
    with pytest.raises(AuthError) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=now)
    return caught.value.reason


def forms(bodies: Sequence[bytes | str]) -> Iterator[dict[str, str]]:
    for body in bodies:
        text = body if isinstance(body, str) else body.decode()
        yield {name: value for name, (value,) in parse_qs(text).items()}


@BY_TLS
async def test_both_endpoints_are_shown_the_certificate(
    authority: PrivateAuthority, idp: IdentityProvider, site: TlsSite, method: str
) -> None:
    own = authority.client()
    table = certified(authority, own) | {"auth_method": method}
    settings = configured(authority.folder, idp, site.url, **table)
    await exchanged(settings)
    assert await introspected(settings) is Reason.TOKEN_INACTIVE
    assert site.requests == ["POST /token", "POST /introspect"]
    assert site.peers == [own.certificate.public_bytes(Encoding.DER)] * 2
    for form in forms(site.bodies):
        assert form["client_id"] == "authsvc"
        assert not {"client_secret", "client_assertion"} & set(form)


@pytest.mark.parametrize(
    ("kind", "client_id", "urn"),
    [
        ("jwt-bearer", "authsvc", ASSERTION_TYPE),
        ("jwt-spiffe", "", SPIFFE_ASSERTION_TYPE),
    ],
)
async def test_both_endpoints_get_the_assertion(
    tmp_path: Path, idp: IdentityProvider, kind: str, client_id: str, urn: str
) -> None:
    with serving_http() as site:
        answer = b'{"access_token":"another","token_type":"Bearer"}'
        site.answers |= {"/token": Answer(answer), "/introspect": Answer(b'{"active":false}')}
        table = kept(tmp_path, START + 60, client_assertion_type=kind, client_id=client_id)
        settings = configured(tmp_path, idp, site.url, **table)
        await exchanged(settings)
        assert await introspected(settings) is Reason.TOKEN_INACTIVE
        sent = list(forms([body for _, body in site.posted]))
    assert len(sent) == 2
    for form in sent:
        assert form.get("client_id", "") == client_id
        assert form["client_assertion_type"] == urn
        assert form["client_assertion"] == (tmp_path / "assertion").read_text()


async def test_without_client_authentication(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as site:
        site.answers["/token"] = Answer(b'{"access_token":"another","token_type":"Bearer"}')
        for client_id in ("", "authsvc"):
            exchange = {
                "issuers": (ISSUER,),
                "endpoint": f"{site.url}/token",
                "auth_method": "none",
                "client_id": client_id,
            }
            await exchanged(settings_for(tmp_path, idp, credentials={"exchange": [exchange]}))
        first, second = forms([body for _, body in site.posted])
        assert all("Authorization" not in headers for headers, _ in site.posted)
    assert second == first | {"client_id": "authsvc"}
    assert "client_id" not in first


async def test_an_expired_assertion_stops_no_start_and_is_not_sent(
    tmp_path: Path, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_http() as site:
        table = kept(tmp_path, START - 7_200, client_id="authsvc")
        settings = configured(tmp_path, idp, site.url, **table)
        with pytest.raises(AuthError) as caught:
            await exchanged(settings)
        assert caught.value.setting == f"{EXCHANGE}.client_assertion_file"
        assert f"{tmp_path}/assertion: the assertion expired 2 h ago" in caught.value.detail
        assert await introspected(settings) is Reason.KEYS_UNAVAILABLE
        assert site.posted == []
        past = kept(tmp_path, time.time() - 60, client_id="authsvc")
        endpoint_of(configured(tmp_path, idp, site.url, **past).credentials.exchange[0], EXCHANGE)
    assert f"{EXCHANGE}.client_assertion_file: {tmp_path}/assertion: the assert" in caplog.text


async def test_an_expired_certificate_is_logged_at_the_start(
    authority: PrivateAuthority, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    table = certified(authority, authority.client(days=-0.001))
    with alerting(authority.demanding()) as url:
        settings = configured(authority.folder, idp, url, **table)
        with pytest.raises(AuthError, match="alert on the client's certificate") as caught:
            await exchanged(settings)
    assert caught.value.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert f"{EXCHANGE}.client_certificate_file: the certificate expired" in caplog.text


NGINX = """
events {{}}
http {{
    server {{
        listen {listens} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        ssl_client_certificate {folder}/trusted.pem;
        ssl_verify_client {verify};
        location / {{ {answer} }}
    }}
}}
"""


@pytest.mark.parametrize(
    ("verify", "answer", "status"),
    [
        ("on", "return 200;", 400),  # nginx's own page, where it rejects the certificate
        *(("optional", f"return {status} '<p>no';", status) for status in (400, 401, 403)),
        ("optional_no_ca", "if ($ssl_client_verify != SUCCESS) { return 495; }", 400),
    ],
)
async def test_a_proxy_that_rejects_the_certificate_by_an_answer(
    authority: PrivateAuthority, idp: IdentityProvider, verify: str, answer: str, status: int
) -> None:
    folder, own = authority.folder, authority.client()
    served = authority.signed("127.0.0.1")
    (folder / "server.pem").write_bytes(served.key_pem() + served.certificate_pem())
    (folder / "other").mkdir()
    trusting = authority if verify == "optional" else PrivateAuthority(folder / "other")
    (folder / "trusted.pem").write_bytes(trusting.file().read_bytes())
    text = NGINX.format(listens=LISTENS, folder=folder, verify=verify, answer=answer)
    with nginx(text, folder) as plain:
        url = plain.replace("http:", "https:")
        settings = configured(folder, idp, url, **certified(authority, own))
        with pytest.raises(AuthError) as caught:
            await exchanged(settings)
        told = f"{url}/token: answered {status} without an error code: the server, or a proxy in"
        assert caught.value.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert caught.value.setting == f"{EXCHANGE}.client_certificate_file"
        assert told in caught.value.detail
        verifier = with_introspection(JwtVerifier([]), settings)
        with pytest.raises(AuthError, match="may reject authsvc's certificate") as caught:
            await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE
        assert caught.value.setting == f"{INTROSPECTION}.client_certificate_file"
        findings = [
            it async for it in diagnose(service.checks(settings), timeout_seconds=TIMEOUT_SECONDS)
        ]
        (found,) = (it for it in findings if it.level is Level.FAIL)
        assert found.text.startswith(told)
        assert found.remedy.startswith("Have the server, and a proxy that ends TLS in front of")


async def test_an_error_code_is_not_about_the_certificate(
    authority: PrivateAuthority, idp: IdentityProvider
) -> None:
    served, file = authority.signed("127.0.0.1"), authority.folder / "server.pem"
    file.write_bytes(served.key_pem() + served.certificate_pem())
    (authority.folder / "trusted.pem").write_bytes(authority.file().read_bytes())
    text = NGINX.format(
        listens=LISTENS,
        folder=authority.folder,
        verify="on",
        answer="""return 400 '{"error":"invalid_grant"}';""",
    )
    with nginx(text, authority.folder) as url:
        table = certified(authority, authority.client())
        settings = configured(authority.folder, idp, url.replace("http:", "https:"), **table)
        with pytest.raises(AuthError) as caught:
            await exchanged(settings)
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED
    assert "certificate" not in caught.value.detail


async def test_a_pair_that_is_none_stops_the_start(
    authority: PrivateAuthority, idp: IdentityProvider
) -> None:
    table = certified(authority, authority.client())
    other = authority.folder / "other.key"
    other.write_bytes(authority.client().key_pem())
    settings = configured(
        authority.folder,
        idp,
        "https://idp.example",
        **table | {"client_certificate_key_file": other},
    )
    with pytest.raises(ConfigError, match=r"exchange\.client_certificate_file: .*does not belong"):
        await exchanged(settings)
    with pytest.raises(ConfigError, match=r"^introspection\.client_certificate_file: .*belong"):
        with_introspection(JwtVerifier([]), settings)
    other.unlink()
    with pytest.raises(ConfigError, match=r"exchange\.client_certificate_key_file: .*No such file"):
        await exchanged(settings)


async def test_a_server_that_redirects_gets_nothing_more(
    authority: PrivateAuthority, idp: IdentityProvider, site: TlsSite
) -> None:
    table = certified(authority, authority.client())
    async with serving_https(authority.demanding()) as elsewhere:
        site.redirects["/token"] = f"{elsewhere.url}/token"
        with pytest.raises(AuthError, match="a redirect, which is not followed"):
            await exchanged(configured(authority.folder, idp, site.url, **table))
    assert (elsewhere.requests, elsewhere.peers, elsewhere.bodies) == ([], [], [])


async def test_an_endpoint_that_repeats_the_assertion(
    tmp_path: Path, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    table = kept(tmp_path, START + 60, client_id="authsvc")
    assertion = (tmp_path / "assertion").read_text()
    with serving_http() as site:
        for error in (assertion, assertion.split(".")[1], f"x-{assertion}"):
            body = json.dumps({"error": error, "error_description": assertion}).encode()
            site.answers |= {"/token": Answer(body, 401), "/introspect": Answer(body, 401)}
            settings = configured(tmp_path, idp, site.url, **table)
            with pytest.raises(AuthError) as caught:
                await exchanged(settings)
            assert caught.value.setting == f"{EXCHANGE}.client_assertion_file"
            assert await introspected(settings) is Reason.KEYS_UNAVAILABLE
            endpoint = endpoint_of(settings.credentials.exchange[0], EXCHANGE)
            shown = f"{caught.value!r} {caught.value.detail} {caplog.text} {endpoint.__dict__!r}"
            for part in (assertion, *assertion.split(".")[1:]):
                assert part not in shown


TABLES: list[tuple[type[ExchangeSettings | IntrospectionSettings | ApiServerSettings], Any]] = [
    (ExchangeSettings, {"issuers": (ISSUER,)}),
    (IntrospectionSettings, {"issuer": ISSUER}),
    (ApiServerSettings, {}),
]
PAIR = {"client_certificate_file": "c", "client_certificate_key_file": "k"}
NAMED = {"client_id": "authsvc"}


@pytest.mark.parametrize(("table", "more"), TABLES)
@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"client_secret_file": "s"}, "'client_secret_basic' needs client_id"),
        ({"auth_method": "tls_client_auth"}, "needs client_certificate_file and client_cert"),
        (
            {"auth_method": "tls_client_auth", "client_certificate_file": "c", **NAMED},
            "'tls_client_auth' needs client_certificate_key_file",
        ),
        ({"auth_method": "self_signed_tls_client_auth", **PAIR}, "needs client_id"),
        (
            {"auth_method": "tls_client_auth", **PAIR, **NAMED, "endpoint": "http://127.0.0.1/t"},
            r"goes with\s+https alone",
        ),
        (
            {"auth_method": "tls_client_auth", **PAIR, **NAMED, "client_assertion_file": "a"},
            "client_assertion_file\\s+has no effect .*set auth_method to client_assertion_file",
        ),
        ({"auth_method": "client_assertion_file"}, "needs client_assertion_file"),
        (
            {"client_secret_file": "s", **NAMED, **PAIR},
            "client_certificate_file\\s+has no effect .*to tls_client_auth or self_signed_tls_cli",
        ),
        (
            {"client_secret_file": "s", **NAMED, "client_assertion_type": "jwt-spiffe"},
            "client_assertion_type\\s+has no effect",
        ),
        (
            {
                "auth_method": "client_assertion_file",
                "client_assertion_file": "a",
                "assertion_audience": "x",
            },
            "assertion_audience\\s+has no effect",
        ),
        ({"auth_method": "none", "client_secret_file": "s"}, "client_secret_file\\s+has no effect"),
    ],
)
def test_settings_that_cannot_work(
    table: type[ExchangeSettings | IntrospectionSettings | ApiServerSettings],
    more: dict[str, object],
    settings: dict[str, object],
    fault: str,
) -> None:
    with pytest.raises(ValidationError, match=fault):
        table.model_validate({"endpoint": "https://idp.example/x", **more, **settings})


@pytest.mark.parametrize("table", TABLES[1:])
def test_these_endpoints_need_a_client(table: Any) -> None:  # noqa: ANN401 - a pair of the table
    cls, more = table
    values = {"endpoint": "https://idp.example/x", "auth_method": "none", **more}
    with pytest.raises(ValidationError, match="none is not possible here"):
        cls.model_validate(values)


# The doctor


async def findings(settings: Settings) -> list[Finding]:
    both = [*service.checks(settings), *introspection.checks(settings)]
    found = [it async for it in diagnose(both, timeout_seconds=TIMEOUT_SECONDS)]
    return [it for it in found if it.subject in {"credentials", "introspection"}]


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [
        (1, Level.OK, "in 23 h"),
        (30, Level.OK, "in 29 d"),
        (-0.001, Level.FAIL, "1 min"),
    ],
)
async def test_the_doctor_looks_at_the_certificate(
    authority: PrivateAuthority,
    idp: IdentityProvider,
    site: TlsSite,
    days: float,
    level: Level,
    text: str,
) -> None:
    table = certified(authority, authority.client(days=days))
    told = await findings(configured(authority.folder, idp, site.url, **table))
    certificates = [it for it in told if "the certificate" in it.text]
    assert [it.level for it in certificates] == [level, level]
    for finding, where in zip(certificates, (EXCHANGE, INTROSPECTION), strict=True):
        verb = "expires" if level is Level.OK else "expired"
        told_of = f"{where}.client_certificate_file: the certificate {verb} on 20"
        assert finding.text.startswith(told_of)
        assert f" UTC, {text}" in finding.text
    assert any("authsvc's client may ask" in it.text for it in told) == (level is Level.OK)


async def test_the_doctor_names_a_server_that_does_not_take_the_certificate(
    authority: PrivateAuthority, idp: IdentityProvider
) -> None:
    (authority.folder / "other").mkdir()
    strange = PrivateAuthority(authority.folder / "other").client()
    table = certified(authority, strange)
    with alerting(authority.demanding()) as url:
        told = await findings(configured(authority.folder, idp, url, **table))
    failed = [it for it in told if it.level is Level.FAIL]
    assert len(failed) == 2
    for finding, where in zip(failed, (EXCHANGE, INTROSPECTION), strict=True):
        assert "alert on the client's certificate: unknown ca" in finding.text
        assert f"have it trust the certificate of {where}.client_certificate_file" in finding.remedy


@pytest.mark.parametrize(
    ("left", "level", "text"),
    [(3_600, Level.OK, "expires in 59 min"), (-3_600, Level.FAIL, "expired 1 h ago")],
)
async def test_the_doctor_looks_at_the_assertion(
    tmp_path: Path, idp: IdentityProvider, left: float, level: Level, text: str
) -> None:
    with serving_http() as site:
        site.answers["/introspect"] = Answer(b'{"active":false}')
        table = kept(tmp_path, time.time() + left, client_id="authsvc")
        told = await findings(configured(tmp_path, idp, site.url, **table))
    assertions = [it for it in told if "the assertion" in it.text]
    assert [it.level for it in assertions] == [level, level]
    assert all(f"client_assertion_file: the assertion {text}" in it.text for it in assertions)
    # One question to each endpoint, or none.
    assert len(site.posted) == (2 if level is Level.OK else 0)
