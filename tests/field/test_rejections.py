"""A rejection that a setting could mend names it: to the operator, and never to the client."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import httpx2
import jwt
import pytest
from click.testing import CliRunner
from google.rpc import status_pb2
from grpc import aio
from starlette.applications import Starlette

from authsvc.access.callers import Caller, Callers
from authsvc.cli import main
from authsvc.cli.configuration import load_settings
from authsvc.common.client_authentication import ClientSecretBasic
from authsvc.common.oauth_endpoint import OAuthEndpoint
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.net.fetching import Fetcher
from authsvc.tokens.introspection import IntrospectionVerifier
from authsvc.tokens.introspection_answers import IntrospectedIssuer
from authsvc.tokens.issuer_names import IssuerNames
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from mcp_adapter import SessionGate
from tests.mcp_adapter.harness import (
    METADATA_URL,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, serving_http
from tests.support.service import Service, serving
from tests.support.statuses import check_only_reason, status_of
from tests.support.tokens import OTHER_RESOURCE, RESOURCE

ISSUER = "https://idp.example/realm"
TENANT = "11111111-2222-3333-4444-555555555555"
ENTRA = f"https://login.microsoftonline.com/{TENANT}/v2.0"
INTROSPECTED = "https://opaque.example"
SECRET = token_hex(32)
OF = f"issuers[{ISSUER}]"

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}

pytestmark = pytest.mark.anyio


def headers_of(presented: str) -> dict[str, str]:
    """Of a request with a token."""
    accepted = "application/json, text/event-stream"
    return {"Authorization": f"Bearer {presented}", "Accept": accepted}


def token(header: dict[str, object] | None = None, /, **claims: object) -> str:
    """A signed token; what is None is left out."""
    now = time.time()
    payload = {"iss": ISSUER, "sub": "alice", "aud": RESOURCE, "iat": now, "exp": now + 600}
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    fields: dict[str, object] = {"alg": "HS256", "typ": "JWT", **(header or {})}
    signed = f"{_part(fields)}.{_part(payload)}"
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), SECRET.encode())
    return f"{signed}.{_encoded(signature)}"


def _part(value: object) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Case:
    """A token, and what its operator is told.

    Attributes:
        of: makes the token.
        reason: of its rejection.
        setting: what mends it; empty where no setting does.
        says: a part of the detail.
    """

    of: Callable[[], str]
    reason: Reason
    setting: str = ""
    says: str = ""


def _case(
    reason: Reason,
    setting: str = "",
    says: str = "",
    header: dict[str, object] | None = None,
    **claims: object,
) -> Case:
    return Case(lambda: token(header, **claims), reason, setting, says)


def _at(name: str, seconds: float, reason: Reason, setting: str, says: str) -> Case:
    return Case(lambda: token(**{name: time.time() + seconds}), reason, setting, says)


_UNKNOWN, _MALFORMED = Reason.TOKEN_ISSUER_UNKNOWN, Reason.TOKEN_MALFORMED
_AUDIENCE, _MISSING = Reason.TOKEN_AUDIENCE_MISMATCH, Reason.TOKEN_CLAIM_MISSING
_EXPIRED, _EARLY = Reason.TOKEN_EXPIRED, Reason.TOKEN_NOT_YET_VALID
_ALGORITHM, _TOO_LARGE = Reason.TOKEN_ALGORITHM_REFUSED, Reason.TOKEN_TOO_LARGE

CASES = {
    "aud": _case(_AUDIENCE, f"{OF}.audiences", RESOURCE, aud="api://default"),
    "no aud": _case(_AUDIENCE, f"{OF}.client_ids", "no aud", aud=None, client_id="app"),
    "iss slash": _case(_UNKNOWN, f"{OF}.issuer", "the slash at the end", iss=f"{ISSUER}/"),
    "iss case": _case(_UNKNOWN, f"{OF}.issuer", "lower case", iss="https://IDP.example/realm"),
    "iss http": _case(_UNKNOWN, f"{OF}.issuer", "http and https", iss="http://idp.example/realm"),
    "iss port": _case(_UNKNOWN, f"{OF}.issuer", "spelling", iss="https://idp.example:443/realm"),
    "iss Entra v1": _case(
        _UNKNOWN,
        f"issuers[{ENTRA}].issuer",
        "versions 1.0 and 2.0",
        iss=f"https://sts.windows.net/{TENANT}/",
    ),
    "iss Entra tenant": _case(
        _UNKNOWN,
        "issuers",
        "another issuer of that host",
        iss="https://login.microsoftonline.com/99999999-2222-3333-4444-555555555555/v2.0",
    ),
    "iss realm": _case(_UNKNOWN, "issuers", ISSUER, iss="https://idp.example/other"),
    "iss other": _case(_UNKNOWN, "issuers", "https://else.example", iss="https://else.example"),
    "iss introspected": _case(_UNKNOWN, "introspection.tokens", "introspected", iss=INTROSPECTED),
    "no iss": _case(_UNKNOWN, "", "no iss", iss=None),
    "alg": _case(_ALGORITHM, f"{OF}.algorithms", "accepted HS256", {"alg": "HS512"}),
    "alg of a public key": _case(_ALGORITHM, "", "accepted HS256", {"alg": "RS256"}),
    "alg unknown": _case(_ALGORITHM, "", "accepted HS256", {"alg": "ES256K"}),
    "alg none": _case(_ALGORITHM, "", "ask its issuer for signed access tokens", {"alg": "none"}),
    "typ": _case(_MALFORMED, f"{OF}.accepted_types", "typ 'access+jwt'", {"typ": "access+jwt"}),
    "typ of a logout": _case(_MALFORMED, "", "send the access token", {"typ": "logout+jwt"}),
    "required": _case(_MISSING, f"{OF}.required_claims", "iat", iat=None),
    "exp": _case(_MISSING, "", "exp", exp=None),
    "subject": _case(_MISSING, f"{OF}.claims.subject", "sub", sub=None),
    "subject type": _case(_MALFORMED, f"{OF}.claims.subject", "not a string", sub=7),
    "client type": _case(_MALFORMED, f"{OF}.claims.client_id", "not a string", client_id=7),
    "scope type": _case(_MALFORMED, f"{OF}.claims.scopes", "neither", scope=7),
    "scope entry": _case(_MALFORMED, f"{OF}.claims.scopes", "other than a string", scope=[7]),
    "roles type": _case(_MALFORMED, f"{OF}.claims.roles", "not a list", roles={"a": 1}),
    "bucket": _case(_MALFORMED, f"{OF}.claims.buckets", "no bucket", buckets=["s3://"]),
    "ID token": _case(_MALFORMED, "", "send the access token", at_hash="x"),
    "size": _case(_TOO_LARGE, "max_token_bytes", "4000", filler="x" * 4_000),
    "exp just before": _at("exp", -40.0, _EXPIRED, f"{OF}.leeway_seconds", "leeway included"),
    "exp before": _at("exp", -400.0, _EXPIRED, "", "6 min 10 s ago"),
    "nbf just after": _at("nbf", 50.0, _EARLY, f"{OF}.leeway_seconds", "from now"),
    "nbf after": _at("nbf", 400.0, _EARLY, "", "6 min 9 s from now"),
    "iat just after": _at("iat", 50.0, _EARLY, f"{OF}.leeway_seconds", "from now"),
    "iat long ago": _at("iat", -9e7, _EXPIRED, "revocations.retention_seconds", ""),
    "zip": _case(_MALFORMED, "", "zip is not accepted: ask its issuer", {"zip": "DEF"}),
    "crit": _case(_MALFORMED, "", "crit is not accepted: ask its issuer", {"crit": ["x"]}),
    "b64": _case(_MALFORMED, "", "b64 is not accepted: ask its issuer", {"b64": False}),
    "nested": _case(_MALFORMED, "", "are not accepted: ask its issuer", {"cty": "JWT"}),
}  # fmt: skip
"""By name; each is a JWT in shape."""

OPAQUE_CASES = {
    "opaque": Case(lambda: "opaque-token", _MALFORMED, "introspection", "introspected"),
    "JWE": Case(lambda: "a.b.c.d.e", _MALFORMED, "", "JWE); ask its issuer"),
    "two parts": Case(lambda: "a.b", _MALFORMED, "", "not three segments"),
}
"""Where no issuer's tokens are introspected."""

ALL = [
    *(pytest.param(True, case, id=name) for name, case in CASES.items()),
    *(pytest.param(False, case, id=name) for name, case in OPAQUE_CASES.items()),
]


def configuration(folder: Path, *, introspects: bool) -> Path:
    """A configuration with several issuers."""
    (folder / "secret").write_text(SECRET)
    tables = [
        f'listen = "unix:{folder}/authsvc.sock"',
        f'resources = ["{RESOURCE}", "{OTHER_RESOURCE}"]\nmax_token_bytes = 4000',
        "drain_seconds = 0.0",
        *(
            f'[[issuers]]\nissuer = "{issuer}"\nalgorithms = ["HS256"]\n'
            f'secret_file = "{folder}/secret"'
            for issuer in (ISSUER, ENTRA)
        ),
        '[store]\nkind = "memory"',
    ]
    if introspects:
        tables.append(
            f'[introspection]\nissuer = "{INTROSPECTED}"\nendpoint = "http://127.0.0.1:1/"\n'
            f'client_id = "authsvc"\nclient_secret_file = "{folder}/secret"'
        )
    path = folder / "authsvc.toml"
    path.write_text("\n".join(tables))
    return path


@dataclass
class Seen:
    """What clients saw of a rejection, in every way that they can ask.

    Attributes:
        statuses: of gRPC, each from another RPC.
        http: the answer of the gate.
    """

    statuses: list[status_pb2.Status] = field(default_factory=list)
    http: httpx2.Response | None = None


@asynccontextmanager
async def _gate(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    gate = SessionGate(
        Starlette(),
        resolver=service.address,
        resource=RESOURCE,
        authorization_servers=[ISSUER],
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http,
    ):
        yield http


async def _seen_by_clients(service: Service, presented: str) -> Seen:
    seen = Seen()
    request = pb.ResolveSessionRequest(
        session_id="0123456789", token=presented, resource=RESOURCE, create=True
    )
    async with aio.insecure_channel(service.address) as channel:
        stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        create = pb.CreateSessionRequest(token=presented, resource=RESOURCE)
        seen.statuses.append(await status_of(stub.ResolveSession(request)))
        seen.statuses.append(await status_of(stub.CreateSession(create)))
        stream = stub.ResolveSessionStream()
        entry = pb.ResolveSessionStreamRequest.Entry(request_id=1, request=request)
        await stream.write(pb.ResolveSessionStreamRequest(entries=[entry]))
        batch = await stream.read()
        assert isinstance(batch, pb.ResolveSessionStreamResponse)
        seen.statuses += [item.error for item in batch.entries]
        stream.cancel()
    async with _gate(service) as http:
        seen.http = await http.post("/mcp", json=INITIALIZE, headers=headers_of(presented))
    return seen


def check_nothing_of_the_configuration(seen: Seen, reason: Reason) -> None:
    """A client sees the reason and its message, and nothing else."""
    assert len(seen.statuses) == 3
    for status in seen.statuses:
        check_only_reason(status, reason)
    assert seen.http is not None
    assert seen.http.json()["error"] == {
        "code": seen.http.status_code,
        "message": reason.message,
        "data": {"reason": reason.name},
    }
    error = "invalid_request" if reason is _TOO_LARGE else "invalid_token"
    assert seen.http.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{METADATA_URL}", error="{error}", '
        f'error_description="{reason.message}"'
    )


@pytest.mark.parametrize(("introspects", "case"), ALL)
async def test_the_audit_event_has_the_setting_and_no_client_sees_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, introspects: bool, case: Case
) -> None:
    caplog.set_level("INFO")
    settings = load_settings(configuration(tmp_path, introspects=introspects))
    presented = case.of()
    async with serving(settings, time.time) as service:
        seen = await _seen_by_clients(service, presented)
    check_nothing_of_the_configuration(seen, case.reason)
    events = [it.__dict__ for it in caplog.records if it.__dict__.get("reason") == case.reason.name]
    events = [event for event in events if event.get("event_type") == "TOKEN_REJECTED"]
    assert len(events) == 4
    for event in events:
        assert event["setting"] == case.setting
        assert case.says in event["detail"]
    assert presented not in caplog.text


@pytest.mark.parametrize(("introspects", "case"), ALL)
def test_explain_names_the_setting(tmp_path: Path, introspects: bool, case: Case) -> None:
    config = configuration(tmp_path, introspects=introspects)

    def explained(*arguments: str) -> str:
        given = ["explain", "--config", str(config), "--resource", RESOURCE, *arguments]
        ran = CliRunner().invoke(main, given, input=case.of())
        assert ran.exit_code == 1, ran.output
        return ran.output

    text = explained()
    answer = json.loads(explained("--json"))
    assert answer["reason"] == case.reason.name
    assert answer["setting"] == (case.setting or None)
    failed = next(check for check in answer["checks"] if check["outcome"] == "fail")
    assert failed["setting"] == (case.setting or None)
    assert case.says in failed["text"]
    assert (f"Setting: {case.setting}\n" in text) is bool(case.setting)
    assert ("Setting:" in text) is bool(case.setting)


@pytest.mark.parametrize("tenant", ["common", "organizations"])
def test_the_template_of_all_tenants_of_entra_is_no_issuer(tenant: str) -> None:
    template = f"https://login.microsoftonline.com/{tenant}/v2.0"
    error = IssuerNames([template]).unknown(ENTRA)
    assert error.setting == f"issuers[{template}].issuer"
    assert "each token of Entra names its own tenant" in error.detail


def test_the_name_of_an_issuer_is_bounded_where_it_is_quoted() -> None:
    error = IssuerNames([ISSUER]).unknown("https://x/" + "a" * 10_000)
    assert error.setting == "issuers"
    assert len(error.detail) < 200


async def test_a_cached_token_that_has_expired_names_the_leeway_of_its_issuer() -> None:
    key = VerificationKey(None, "HS256", SECRET.encode())
    verifier = JwtVerifier([Issuer(ISSUER, KeySet((key,)))])
    presented, now = BearerToken(token()), time.time()
    await verifier.verify(presented, resource=RESOURCE, now=now)
    with pytest.raises(AuthError) as caught:
        verifier.cached(presented, resource=RESOURCE, now=now + 640.0)
    assert caught.value.setting == f"{OF}.leeway_seconds"
    assert str(caught.value).endswith(f" (setting: {OF}.leeway_seconds)")


async def test_an_introspected_token_that_has_expired_names_the_leeway_of_its_table(
    tmp_path: Path,
) -> None:
    now = time.time()
    answer = {"active": True, "sub": "alice", "aud": RESOURCE, "exp": now + 10}
    with serving_http() as site:
        site.answers["/"] = Answer(json.dumps(answer).encode())
        verifier = _introspection(f"{site.url}/", tmp_path)
        presented = BearerToken("opaque-token")
        await verifier.verify(presented, resource=RESOURCE, now=now)
        with pytest.raises(AuthError) as caught:
            await verifier.verify(presented, resource=RESOURCE, now=now + 50.0)
    assert (caught.value.reason, caught.value.setting) == (
        Reason.TOKEN_EXPIRED,
        "introspection.leeway_seconds",
    )


async def test_a_clock_that_is_set_back_names_the_leeway_of_a_cached_answer(tmp_path: Path) -> None:
    now = time.time()
    answer = {"active": True, "sub": "alice", "aud": RESOURCE, "exp": now + 600, "nbf": now}
    with serving_http() as site:
        site.answers["/"] = Answer(json.dumps(answer).encode())
        verifier = _introspection(f"{site.url}/", tmp_path)
        presented = BearerToken("opaque-token")
        await verifier.verify(presented, resource=RESOURCE, now=now)
        with pytest.raises(AuthError) as caught:
            verifier.cached(presented, resource=RESOURCE, now=now - 50.0)
    assert (caught.value.reason, caught.value.setting) == (
        Reason.TOKEN_NOT_YET_VALID,
        "introspection.leeway_seconds",
    )


INTROSPECTION_CASES = {
    "aud": ({"aud": "other"}, _AUDIENCE, "introspection.audiences"),
    "no aud": ({"aud": None}, _AUDIENCE, "introspection.client_ids"),
    "exp": ({"exp": None}, _MISSING, "introspection.expiry_optional"),
    "iss": ({"iss": "https://else.example"}, _UNKNOWN, "introspection.issuer"),
    "scope": ({"scope": 7}, _MALFORMED, "introspection.claims.scopes"),
    "not active": ({"active": False}, Reason.TOKEN_INACTIVE, ""),
}


@pytest.mark.parametrize("case", INTROSPECTION_CASES.values(), ids=INTROSPECTION_CASES)
async def test_a_rejection_by_introspection_names_the_setting_when_cached_too(
    tmp_path: Path, case: tuple[dict[str, object], Reason, str]
) -> None:
    changes, reason, setting = case
    now = time.time()
    answer = {"active": True, "sub": "alice", "aud": RESOURCE, "exp": now + 600, **changes}
    answer = {name: value for name, value in answer.items() if value is not None}
    with serving_http() as site:
        site.answers["/"] = Answer(json.dumps(answer).encode())
        verifier = _introspection(f"{site.url}/", tmp_path)
        for _ in range(2):
            with pytest.raises(AuthError) as caught:
                await verifier.verify(BearerToken("opaque-token"), resource=RESOURCE, now=now)
            assert (caught.value.reason, caught.value.setting) == (reason, setting)
        assert len(site.posted) == 1


def _introspection(url: str, folder: Path) -> IntrospectionVerifier:
    (folder / "secret").write_text(SECRET)
    authentication = ClientSecretBasic(
        "authsvc", folder / "secret", "introspection.client_secret_file"
    )
    return IntrospectionVerifier(
        IntrospectedIssuer(INTROSPECTED), OAuthEndpoint(url, authentication, Fetcher())
    )


def test_denied_callers_are_told_apart_by_their_setting() -> None:
    server = Caller("server", frozenset({RESOURCE}), certificate_names=frozenset({"s.example"}))
    operator = Caller("operator", admin=True, token_digests=(b"x" * 32,))
    local = Caller("local", frozenset({RESOURCE}))
    callers = Callers([server, operator])
    denials: dict[str, Callable[[], object]] = {
        "callers[server].resources": lambda: server.authorize(OTHER_RESOURCE),
        "resources": lambda: local.authorize(OTHER_RESOURCE),
        "callers[server].admin": server.authorize_admin,
        "callers[operator].admin": operator.authorize_service,
        "local_operators": local.authorize_admin,
        "callers.certificate_names": lambda: callers.identify(["else.example"], ""),
        "callers.service_token_files": lambda: callers.identify([], "unknown"),
    }
    for setting, denied in denials.items():
        with pytest.raises(AuthError) as caught:
            denied()
        assert (caught.value.reason, caught.value.setting) == (Reason.CALLER_NOT_ALLOWED, setting)
    with pytest.raises(AuthError) as caught:
        callers.identify([], "")
    assert caught.value.setting == "callers"
