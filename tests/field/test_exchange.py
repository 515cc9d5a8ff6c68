"""Token exchange as endpoints answer it, and client authentication at both kinds of endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from authsvc.cli.check_config import problems
from authsvc.common.settings import ConfigError
from authsvc.credentials import CredentialBroker
from authsvc.credentials.cache import FAILURE_SECONDS
from authsvc.credentials.exchange.answers import DEFAULT_EXPIRES_IN_SECONDS
from authsvc.diagnosis import Level, diagnose, service
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Principal, Secret
from authsvc.domain.tokens import BearerToken
from authsvc.net.certificates import make_authority
from authsvc.server.brokers import open_broker
from authsvc.server.config import ExchangeSettings, IntrospectionSettings, Settings
from authsvc.server.issuers import with_introspection
from authsvc.tokens.jwt import JwtVerifier
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

TOKEN = Secret("the.clients.token")
SECRET = "hush: a secret/with+signs"
ALICE = Principal(ISSUER, "alice", START + 6_000)
KEY = generate_private_key(SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        answers(running)
        yield running


def answers(site: Site, **changes: object) -> None:
    """The endpoint's response from now on; a member of ... is left out."""
    said = {
        "access_token": "the-apis-token",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3600,
        **changes,
    }
    body = json.dumps({name: value for name, value in said.items() if value is not ...})
    site.answers["/token"] = Answer(body.encode())


def configured(folder: Path, idp: IdentityProvider, site: Site, **changes: object) -> Settings:
    (folder / "client.secret").write_text(SECRET)
    table: dict[str, Any] = {
        "issuers": (ISSUER,),
        "endpoint": f"{site.url}/token",
        "client_id": "authsvc",
        "client_secret_file": folder / "client.secret",
        **changes,
    }
    return settings_for(folder, idp, credentials={"exchange": [table]})


@asynccontextmanager
async def broker_of(settings: Settings) -> AsyncIterator[CredentialBroker]:
    async with open_broker(settings) as broker:
        assert broker is not None
        yield broker


@pytest.fixture
async def broker(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> AsyncIterator[CredentialBroker]:
    async with broker_of(configured(tmp_path, idp, site)) as broker:
        yield broker


async def issued(
    broker: CredentialBroker, token: str = TOKEN.reveal(), now: float = START
) -> BearerCredentials:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        got = await broker.issue(ALICE, token=Secret(token), resource=RESOURCE, now=now)
    assert isinstance(got, BearerCredentials)
    return got


async def refusal(
    broker: CredentialBroker, token: str = TOKEN.reveal(), now: float = START
) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await issued(broker, token, now)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"issued_token_type": ...}, 3600),
        ({"issued_token_type": None}, 3600),
        ({"issued_token_type": "urn:ietf:params:oauth:token-type:jwt"}, 3600),
        ({"token_type": "bearer"}, 3600),
        ({"token_type": "BEARER"}, 3600),
        ({"expires_in": "3600"}, 3600),
        ({"expires_in": "60.9"}, 60),
        ({"expires_in": 60.9}, 60),
        ({"expires_in": 3.6e3}, 3600),
        ({"expires_in": None}, DEFAULT_EXPIRES_IN_SECONDS),
        ({"expires_in": ...}, DEFAULT_EXPIRES_IN_SECONDS),
        ({"refresh_token": "another", "scope": None, "id_token": 7}, 3600),
        ({"ext_expires_in": "3600", "not-before-policy": 0}, 3600),
    ],
    ids=str,
)
async def test_answers_that_are_accepted(
    broker: CredentialBroker, site: Site, changes: dict[str, object], seconds: float
) -> None:
    answers(site, **changes)
    assert await issued(broker) == BearerCredentials(
        Secret("the-apis-token"), "Bearer", START + seconds
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": ...},
        {"token_type": ...},
        {"token_type": None},
        {"token_type": "DPoP"},
        {"token_type": "N_A"},
        {"token_type": ["Bearer"]},
        {"issued_token_type": ""},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"expires_in": "0"},
        {"expires_in": ""},
        {"expires_in": "-1"},
        {"expires_in": "1e3"},
        {"expires_in": "3600 "},
        {"expires_in": "9" * 400},
        {"expires_in": "٣٦٠٠"},
        {"expires_in": [3600]},
        {"expires_in": False},
        {"expires_in": 0.5},
    ],
    ids=str,
)
async def test_answers_that_are_rejected(
    broker: CredentialBroker, site: Site, changes: dict[str, object]
) -> None:
    answers(site, **changes)
    assert (await refusal(broker)).reason is Reason.CREDENTIALS_UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "invalid_grant", Reason.CREDENTIALS_REFUSED),
        (401, "invalid_grant", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_target", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_scope", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_request", Reason.CREDENTIALS_REFUSED),
        (400, "unauthorized_client", Reason.CREDENTIALS_REFUSED),
        (401, "unauthorized_client", Reason.CREDENTIALS_REFUSED),
        (403, "access_denied", Reason.CREDENTIALS_REFUSED),
        (400, "their_own", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_client", Reason.CREDENTIALS_UNAVAILABLE),
        (401, "invalid_client", Reason.CREDENTIALS_UNAVAILABLE),
        (403, "invalid_client", Reason.CREDENTIALS_UNAVAILABLE),
        (400, "unsupported_grant_type", Reason.CREDENTIALS_UNAVAILABLE),
        (400, "temporarily_unavailable", Reason.CREDENTIALS_UNAVAILABLE),
        (500, "server_error", Reason.CREDENTIALS_UNAVAILABLE),
    ],
)
async def test_the_error_code_is_logged_and_decides(
    broker: CredentialBroker,
    site: Site,
    status: int,
    code: str,
    reason: Reason,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = {"error": code, "error_description": f"not for {TOKEN.reveal()} of {SECRET}"}
    site.answers["/token"] = Answer(json.dumps(body).encode(), status)
    error = await refusal(broker)
    assert error.reason is reason
    assert f"{status} ({code})" in error.detail
    assert ("credentials.exchange.client_secret_file" in error.detail) == (code == "invalid_client")
    for secret in (TOKEN.reveal(), SECRET):
        assert secret not in f"{error} {caplog.text}"


@pytest.mark.parametrize(
    "code",
    ["", None, 7, ["invalid_grant"], "a b", "x\ny", "\x1b[2J", "e" * 65, TOKEN.reveal(), "clients"],
    ids=str,
)
async def test_what_is_no_error_code_is_not_shown(
    broker: CredentialBroker, site: Site, code: object, caplog: pytest.LogCaptureFixture
) -> None:
    site.answers["/token"] = Answer(json.dumps({"error": code}).encode(), 400)
    error = await refusal(broker)
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert "answered 400" in error.detail
    assert "(" not in error.detail
    if code and isinstance(code, str):
        assert code not in f"{error.detail} {caplog.text}".replace("credentials", "")


async def test_an_error_that_repeats_the_credentials_is_not_shown(
    broker: CredentialBroker, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = base64.b64encode(f"authsvc:{quote_plus(SECRET)}".encode()).decode().rstrip("=")
    for n, code in enumerate((quoted, f"unknown.{TOKEN.reveal()}")):
        site.answers["/token"] = Answer(json.dumps({"error": code}).encode(), 400)
        error = await refusal(broker, now=START + n * (FAILURE_SECONDS + 1))
        assert "answered 400" in error.detail
        assert code not in f"{error.detail} {caplog.text}"


async def test_a_long_error_is_not_read_to_its_end(broker: CredentialBroker, site: Site) -> None:
    site.answers["/token"] = Answer(b'{"error":"invalid_grant","x":"' + b"a" * 3_000_000, 400)
    error = await refusal(broker)
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert "invalid_grant" not in error.detail


async def test_an_endpoint_that_asks_to_wait_is_left_alone(
    broker: CredentialBroker, site: Site
) -> None:
    site.answers["/token"] = Answer(b"", 429, {"Retry-After": "20"})
    error = await refusal(broker)
    assert (error.reason, error.retry_after_seconds) == (Reason.CREDENTIALS_UNAVAILABLE, 20.0)
    again = await refusal(broker, now=START + FAILURE_SECONDS + 1)
    assert again.retry_after_seconds == 20.0 - FAILURE_SECONDS - 1
    assert len(site.posted) == 1
    answers(site)
    await issued(broker, now=START + 20)


# Client authentication, the same at both endpoints

Sent = tuple[dict[str, str], dict[str, str]]
"""The form and the headers of a request."""


async def asked(folder: Path, idp: IdentityProvider, site: Site, **table: object) -> list[Sent]:
    """What two endpoints get: of an exchange, and of an introspection."""
    settings = configured(folder, idp, site, **table)
    async with broker_of(settings) as broker:
        await issued(broker)
    site.answers["/introspect"] = Answer(b'{"active":false}')
    exchange = settings.credentials.exchange[0]
    introspection = IntrospectionSettings.model_validate(
        {
            "issuer": "https://introspected.example",
            "endpoint": f"{site.url}/introspect",
            "client_id": "authsvc",
            "client_secret_file": exchange.client_secret_file,
            **table,
        }
    )
    values = settings.model_copy(update={"introspection": introspection})
    verifier = with_introspection(JwtVerifier([]), values)
    with pytest.raises(AuthError, match="TOKEN_INACTIVE"):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await verifier.verify(BearerToken("opaque"), resource=RESOURCE, now=START)
    return [({k: v for k, (v,) in parse_qs(body).items()}, head) for head, body in site.posted]


async def test_the_secret_in_the_header(tmp_path: Path, idp: IdentityProvider, site: Site) -> None:
    for form, headers in await asked(tmp_path, idp, site):
        assert headers["Authorization"].startswith("Basic ")
        assert not {"client_id", "client_secret", "client_assertion"} & set(form)


async def test_the_secret_in_the_form(tmp_path: Path, idp: IdentityProvider, site: Site) -> None:
    for form, headers in await asked(tmp_path, idp, site, auth_method="client_secret_post"):
        assert "Authorization" not in headers
        assert (form["client_id"], form["client_secret"]) == ("authsvc", SECRET)


@pytest.mark.parametrize("audience", ["", "https://idp.example"])
async def test_a_signed_assertion(
    tmp_path: Path, idp: IdentityProvider, site: Site, audience: str
) -> None:
    (tmp_path / "key.pem").write_bytes(PEM)
    requests = await asked(
        tmp_path,
        idp,
        site,
        auth_method="private_key_jwt",
        client_secret_file=None,
        private_key_file=tmp_path / "key.pem",
        private_key_id="k1",
        assertion_audience=audience,
    )
    ids = set()
    for path, (form, headers) in zip(("/token", "/introspect"), requests, strict=True):
        assert "Authorization" not in headers
        assert "client_secret" not in form
        assert form["client_id"] == "authsvc"
        assert form["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")
        token = form["client_assertion"]
        assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": "k1"}
        claims = jwt.decode(
            token,
            KEY.public_key(),
            algorithms=["ES256"],
            audience=audience or f"{site.url}{path}",
            options={"verify_exp": False, "verify_iat": False},
        )
        assert claims["iss"] == claims["sub"] == "authsvc"
        assert 0 < claims["exp"] - claims["iat"] <= 60
        ids.add(claims["jti"])
    assert len(ids) == 2


async def test_no_assertion_is_logged(
    tmp_path: Path, idp: IdentityProvider, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "authsvc")
    (tmp_path / "key.pem").write_bytes(PEM)
    settings = configured(
        tmp_path,
        idp,
        site,
        auth_method="private_key_jwt",
        client_secret_file=None,
        private_key_file=tmp_path / "key.pem",
    )
    site.answers["/token"] = Answer(b'{"error":"invalid_client"}', 401)
    async with broker_of(settings) as broker:
        error = await refusal(broker)
        assert "credentials.exchange.private_key_file" in error.detail
        (tmp_path / "key.pem").write_text("hush")
        later = await refusal(broker, now=START + 60)
        assert later.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert "credentials.exchange.private_key_file" in later.detail
    sent = parse_qs(site.posted[0][1])["client_assertion"][0]
    shown = f"{error} {later} {caplog.text} {broker.__dict__!r}"
    assert sent not in shown
    assert "hush" not in shown


BOTH = (
    (ExchangeSettings, {"issuers": (ISSUER,)}),
    (IntrospectionSettings, {"issuer": ISSUER}),
)


@pytest.mark.parametrize(("table", "more"), BOTH, ids=["exchange", "introspection"])
@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "'client_secret_basic' needs client_secret_file"),
        ({"auth_method": "client_secret_post"}, "'client_secret_post' needs client_secret_file"),
        ({"auth_method": "private_key_jwt"}, "'private_key_jwt' needs private_key_file"),
        (
            {"auth_method": "private_key_jwt", "private_key_file": "k", "client_secret_file": "s"},
            r"client_secret_file\s+has no effect",
        ),
        ({"client_secret_file": "s", "private_key_file": "k"}, r"private_key_file\s+has no effect"),
        ({"client_secret_file": "s", "private_key_id": "k"}, r"private_key_id\s+has no effect"),
        (
            {"client_secret_file": "s", "private_key_algorithm": "PS256"},
            r"private_key_algorithm\s+has no effect",
        ),
        (
            {"client_secret_file": "s", "private_key_certificate_file": "c"},
            r"private_key_certificate_file\s+has no effect",
        ),
        (
            {
                "auth_method": "private_key_jwt",
                "private_key_file": "k",
                "private_key_thumbprint": "x5t",
            },
            r"private_key_thumbprint\s+has no effect without private_key_certificate_file",
        ),
        ({"client_secret_file": "s", "assertion_audience": "x"}, r"assertion_audience\s+has no"),
        ({"client_secret_file": "s", "auth_method": "none"}, "auth_method"),
        ({"client_secret_file": "s", "auth_method": "tls_client_auth"}, "auth_method"),
    ],
)
def test_settings_that_cannot_work(
    table: type[ExchangeSettings | IntrospectionSettings],
    more: dict[str, object],
    settings: dict[str, object],
    fault: str,
) -> None:
    values = {"endpoint": "https://idp.example/x", "client_id": "authsvc", **more, **settings}
    with pytest.raises(ValidationError, match=fault):
        table.model_validate(values)


async def test_a_key_that_cannot_be_used_stops_the_start(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    (tmp_path / "key.pem").write_bytes(PEM)
    settings = configured(
        tmp_path,
        idp,
        site,
        auth_method="private_key_jwt",
        client_secret_file=None,
        private_key_file=tmp_path / "key.pem",
        private_key_algorithm="PS256",
    )
    with pytest.raises(ConfigError, match=r"credentials\.exchange\.private_key_file.*PS256"):
        async with open_broker(settings):
            pass


async def test_a_certificate_of_another_key_stops_the_start(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    own, other = make_authority("authsvc", days=1), make_authority("other", days=1)
    (tmp_path / "key.pem").write_bytes(own.key_pem())
    (tmp_path / "certificate.pem").write_bytes(own.certificate_pem())
    changes: dict[str, object] = {
        "auth_method": "private_key_jwt",
        "client_secret_file": None,
        "private_key_file": tmp_path / "key.pem",
        "private_key_certificate_file": tmp_path / "certificate.pem",
    }
    for form, _ in await asked(tmp_path, idp, site, **changes):
        assert "x5t#S256" in jwt.get_unverified_header(form["client_assertion"])
    (tmp_path / "certificate.pem").write_bytes(other.certificate_pem())
    settings = configured(tmp_path, idp, site, **changes)
    setting = r"credentials\.exchange\.private_key_certificate_file: .*does not belong"
    with pytest.raises(ConfigError, match=setting):
        async with open_broker(settings):
            pass
    (told,) = [
        it
        async for it in diagnose(service.checks(settings), timeout_seconds=TIMEOUT_SECONDS)
        if it.level is Level.FAIL
    ]
    assert re.search(setting, told.text)
    path = tmp_path / "authsvc.toml"
    path.write_text(
        'resources = ["https://mcp.example"]\n[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["ES256"]\ndiscover = true\n'
        '[introspection]\nissuer = "https://i.example"\nendpoint = "https://i.example/x"\n'
        'client_id = "authsvc"\nauth_method = "private_key_jwt"\n'
        f'private_key_file = "{tmp_path}/key.pem"\n'
        f'private_key_certificate_file = "{tmp_path}/certificate.pem"\n'
    )
    (problem,) = await asyncio.to_thread(problems, path)
    assert problem.startswith("introspection.private_key_certificate_file: ")
