"""Profiles of token exchange: what is sent where, what is accepted, and what is never issued."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from authsvc.common.settings import ConfigError
from authsvc.credentials.cache import FAILURE_SECONDS
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Secret
from authsvc.net import fetching
from tests.support.clock import START
from tests.support.exchanges import (
    ACTOR_TOKEN,
    ALICE,
    API_SECRET,
    API_TOKEN,
    ASSERTION,
    CASES,
    ENTRA,
    FEDERATED,
    GCP,
    GCP_ACCOUNT,
    ID_JAG,
    ID_JAG_SCOPED,
    LEGS,
    OAUTH_LEGS,
    RFC8693,
    SECRET,
    TOKEN,
    TYPES,
    WITH_ACTOR,
    Case,
    exchanging,
)
from tests.support.http import Answer
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

EACH = pytest.mark.parametrize("case", CASES, ids=str)
EACH_OAUTH_LEG = pytest.mark.parametrize(("case", "leg"), OAUTH_LEGS, ids=str)
EACH_LEG = pytest.mark.parametrize(("case", "leg"), LEGS, ids=str)

SECRETS = (TOKEN.reveal(), SECRET, API_SECRET, ACTOR_TOKEN, ASSERTION, API_TOKEN)


def table_of(leg: int) -> str:
    """The table of the configuration that a token endpoint's settings are in."""
    return "credentials.exchange.api_server" if leg else "credentials.exchange"


# What is sent where


@pytest.mark.parametrize("case", [*CASES, ID_JAG_SCOPED], ids=str)
async def test_what_is_sent_where(case: Case, tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        assert await exchange.issued() == BearerCredentials(
            Secret(API_TOKEN), "Bearer", START + 600
        )
        assert exchange.count == [1] * len(case.requests)
        for leg, request in enumerate(case.requests):
            ((path, form, headers),) = exchange.sent(leg)
            assert (path, form) == (request.path, request.form)
            if request.document is not None:
                assert json.loads(exchange.sites[leg].posted[0][1]) == request.document
            assert headers["Host"] == exchange.sites[leg].url.removeprefix("http://")


@EACH
async def test_the_clients_token_goes_to_the_first_endpoint_alone(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        await exchange.issued()
        for leg, site in enumerate(exchange.sites):
            everything = f"{site.requests} {site.posted}"
            assert (TOKEN.reveal() in everything) == (leg == 0)
            assert (ASSERTION in everything) == (case is ID_JAG and leg == 1)


async def test_each_server_of_two_has_its_own_client(tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(ID_JAG, tmp_path, idp) as exchange:
        await exchange.issued()
        pairs = [
            base64.b64decode(exchange.sent(leg)[0][2]["Authorization"].removeprefix("Basic "))
            for leg in (0, 1)
        ]
    assert pairs[0].startswith(b"authsvc:")
    assert pairs[1] == f"f53f191f9311af35:{API_SECRET}".encode()


async def test_the_actors_token_is_read_for_each_request(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(WITH_ACTOR, tmp_path, idp) as exchange:
        await exchange.issued()
        (tmp_path / "actor.token").write_text("a.renewed.one\n")
        await exchange.issued(token=Secret("a.new.token"))
        assert [form["actor_token"] for _, form, _ in exchange.sent(0)] == [
            ACTOR_TOKEN,
            "a.renewed.one",
        ]
        (tmp_path / "actor.token").unlink()
        error = await exchange.refusal(token=Secret("a.third.token"))
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert error.setting == "credentials.exchange.actor_token_file"
        assert str(tmp_path / "actor.token") in error.detail
        assert exchange.count == [2]


async def test_an_actors_token_that_cannot_be_read_stops_the_start(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(ConfigError, match=r"credentials\.exchange\.actor_token_file"):
        async with exchanging(WITH_ACTOR, tmp_path, idp, actor_token_file=missing):
            pass


@EACH
async def test_another_issuers_token_is_not_sent(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        who = replace(ALICE, issuer="https://other.example")
        got = await exchange.broker.issue(who, token=TOKEN, resource="https://x.example", now=START)
        assert got is None
        assert not any(exchange.count)


@EACH
async def test_a_token_that_another_may_act_with_is_not_sent(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    claims = {"scp": "Tools.Read", "may_act": {"client_id": "another"}}
    async with exchanging(case, tmp_path, idp) as exchange:
        who = replace(ALICE, claims_json=json.dumps(claims).encode())
        assert (await exchange.refusal(who=who)).reason is Reason.CREDENTIALS_REFUSED
        assert not any(exchange.count)


# Cache


@EACH
async def test_the_apis_token_is_cached_and_first_calls_are_one(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.sites[0].hold.clear()
        asking = [asyncio.create_task(exchange.issued()) for _ in range(50)]
        assert await asyncio.to_thread(exchange.sites[0].arrived.wait, 10)
        exchange.sites[0].hold.set()
        await asyncio.gather(*asking)
        await exchange.issued(now=START + 1)
        assert exchange.count == [1] * len(case.requests)


@EACH
async def test_two_tokens_get_each_its_own(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        await exchange.issued()
        last = len(case.requests) - 1
        exchange.answers(last, **{case.requests[last].token: "another"})
        other = await exchange.issued(token=Secret("a.new.token"))
        assert other.access_token == Secret("another")
        assert (await exchange.issued()).access_token == Secret(API_TOKEN)


# Failures of each request


@EACH_OAUTH_LEG
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "invalid_grant", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_target", Reason.CREDENTIALS_REFUSED),
        (400, "invalid_scope", Reason.CREDENTIALS_REFUSED),
        (403, "access_denied", Reason.CREDENTIALS_REFUSED),
        (400, "interaction_required", Reason.CREDENTIALS_REFUSED),
        (401, "interaction_required", Reason.CREDENTIALS_REFUSED),
        (401, "consent_required", Reason.CREDENTIALS_REFUSED),
        (401, "insufficient_user_authentication", Reason.CREDENTIALS_REFUSED),
        (400, "temporarily_unavailable", Reason.CREDENTIALS_UNAVAILABLE),
        (503, "", Reason.CREDENTIALS_UNAVAILABLE),
        (404, "", Reason.CREDENTIALS_UNAVAILABLE),
        (302, "", Reason.CREDENTIALS_UNAVAILABLE),
    ],
)
async def test_an_error_of_each_request(
    case: Case,
    leg: int,
    status: int,
    code: str,
    reason: Reason,
    tmp_path: Path,
    idp: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        body = {"error": code, "error_description": f"{TOKEN.reveal()} {SECRET}"}
        exchange.fails(leg, status, body, {"Location": f"{exchange.sites[leg].url}/elsewhere"})
        error = await exchange.refusal()
        assert error.reason is reason
        assert f"answered {status}" in error.detail
        assert exchange.count == [1] * (leg + 1) + [0] * (len(case.requests) - leg - 1)
        shown = f"{error} {error.setting} {caplog.text}"
        assert not [secret for secret in SECRETS if secret in shown]
        # Cached as a failure, and then mended.
        await exchange.refusal()
        assert exchange.count[leg] == 1
        exchange.answers(leg)
        await exchange.issued(now=START + FAILURE_SECONDS + 1)


@EACH_OAUTH_LEG
async def test_a_rejected_client_is_named_by_its_table(
    case: Case, leg: int, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.fails(leg, 401, {"error": "invalid_client"})
        error = await exchange.refusal()
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert error.setting.startswith(f"{table_of(leg)}.")
    assert f"compare {table_of(leg)}.client_id" in error.detail


@EACH_OAUTH_LEG
async def test_a_client_that_may_not_ask_is_named_by_its_table(
    case: Case, leg: int, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.fails(leg, 400, {"error": "unauthorized_client"})
        error = await exchange.refusal()
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert error.setting == f"{table_of(leg)}.client_id"


@EACH_LEG
async def test_an_endpoint_that_throttles_is_left_alone(
    case: Case, leg: int, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.fails(leg, 429, headers={"Retry-After": "20"})
        error = await exchange.refusal()
        assert (error.reason, error.retry_after_seconds) == (Reason.CREDENTIALS_UNAVAILABLE, 20.0)
        await exchange.refusal(now=START + FAILURE_SECONDS + 1)
        assert exchange.count[leg] == 1


@EACH_LEG
@pytest.mark.parametrize("until", [False, True], ids=["silent", "a byte at a time"])
async def test_a_slow_endpoint(
    case: Case,
    leg: int,
    until: bool,
    tmp_path: Path,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "FETCH_TIMEOUT_SECONDS", 0.3)
    async with exchanging(case, tmp_path, idp) as exchange:
        site, path = exchange.sites[leg], case.requests[leg].path
        if until:
            site.answers[path] = Answer(b"{}", until=Event())
        else:
            site.hold.clear()
        error = await exchange.refusal()
        site.hold.set()
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert "no answer in" in error.detail


# Answers that are none


HOSTILE: dict[str, tuple[object, ...]] = {
    "access_token": (
        *(None, ..., "", 7, ["x"], {"x": 1}, "two words", "line\nbreak", "tab\t", "nul\0"),
        *("é", "a" * 70_000, "=", True),
    ),
    "token_type": (None, ..., "", "DPoP", "mac", 7, ["Bearer"]),
    "issued_token_type": (
        *("", 7, [TYPES + "access_token"], TYPES + "refresh_token", TYPES + "saml2"),
        *(TYPES + "id_token", TYPES, {}),
    ),
    "expires_in": (
        *(0, -1, "-1", "1e9", "soon", 1e300, float("nan"), float("inf"), True, [60], {}),
        "9" * 400,
    ),
}
"""By member of a response."""

WRONG: list[tuple[str, object]] = [
    *((name, value) for name, values in HOSTILE.items() for value in values)
]


@EACH_OAUTH_LEG
@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda it: ascii(it)[:20])
async def test_an_answer_that_is_none(
    case: Case, leg: int, name: str, value: object, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.answers(leg, **{name: value})
        error = await exchange.refusal()
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert error.setting == f"{table_of(leg)}.endpoint"
        assert exchange.count == [1] * (leg + 1) + [0] * (len(case.requests) - leg - 1)


@pytest.mark.parametrize("case", [it for it in CASES if it is not GCP_ACCOUNT], ids=str)
async def test_a_token_that_has_expired_on_arrival(
    case: Case, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.answers(len(case.requests) - 1, expires_in=0.5)
        error = await exchange.refusal()
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert "expired on arrival" in error.detail


@EACH_LEG
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b'"text"', b"<html><body>Sign in</body></html>", b"\xff\xfe"),
        *(b"[" * 100_000, b"1" * 10_000, b'{"access_token":', b" " * 600_000),
    ],
    ids=lambda body: body[:12].decode("latin1"),
)
async def test_a_body_that_is_none(
    case: Case, leg: int, body: bytes, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.fails(leg, 200, body)
        error = await exchange.refusal()
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE


SENT = [
    *((case, leg, TOKEN.reveal()) for case, leg in LEGS),
    (WITH_ACTOR, 0, ACTOR_TOKEN),
    (ID_JAG, 1, ASSERTION),
    (GCP_ACCOUNT, 1, FEDERATED),
]


@pytest.mark.parametrize(("case", "leg", "token"), SENT, ids=str)
async def test_a_token_that_was_sent_is_never_issued(
    case: Case, leg: int, token: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    """Neither as credentials, nor to the next server."""
    async with exchanging(case, tmp_path, idp) as exchange:
        exchange.answers(leg, **{case.requests[leg].token: token})
        error = await exchange.refusal()
        assert error.reason is Reason.CREDENTIALS_REFUSED
        assert token not in f"{error}"
        assert exchange.count == [1] * (leg + 1) + [0] * (len(case.requests) - leg - 1)


async def test_a_server_that_issues_no_assertion_stays_the_last(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    """One that does not know id-jag answers with an access token of its own."""
    async with exchanging(ID_JAG, tmp_path, idp) as exchange:
        for changes in (
            {"issued_token_type": TYPES + "access_token", "token_type": "Bearer"},
            {"issued_token_type": TYPES + "access_token"},
            {"issued_token_type": ..., "token_type": "Bearer"},
            {"issued_token_type": ...},
            {"token_type": "Bearer"},
        ):
            exchange.answers(0, **changes)
            error = await exchange.refusal(token=Secret(f"t.{len(exchange.sites[0].requests)}"))
            assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert exchange.count == [5, 0]


async def test_n_a_is_for_a_jwt_that_was_requested(tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(RFC8693, tmp_path, idp) as exchange:
        exchange.answers(0, token_type="N_A", issued_token_type=TYPES + "jwt")
        assert (await exchange.refusal()).reason is Reason.CREDENTIALS_UNAVAILABLE
    async with exchanging(WITH_ACTOR, tmp_path, idp) as exchange:
        exchange.answers(0, token_type="Bearer")
        await exchange.issued()
        exchange.answers(0, issued_token_type=TYPES + "access_token")
        error = await exchange.refusal(token=Secret("a.new.token"))
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE


# Microsoft Entra


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"roles": ["Tools.Read"]},
        {"scp": ""},
        {"scp": "Tools.Read", "idtyp": "app"},
    ],
    ids=str,
)
async def test_an_applications_token_is_not_sent_to_entra(
    claims: dict[str, object], tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(ENTRA, tmp_path, idp) as exchange:
        who = replace(ALICE, claims_json=json.dumps(claims).encode())
        error = await exchange.refusal(who=who)
        assert error.reason is Reason.CREDENTIALS_REFUSED
        assert "application" in error.detail
        assert exchange.count == [0]


async def test_what_entra_says_is_logged_as_numbers(
    tmp_path: Path, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """In the shape of the documentation's example."""
    body = {
        "error": "interaction_required",
        "error_description": f"AADSTS50079: … to access 'x'.\r\nTrace ID: y {TOKEN.reveal()}",
        "error_codes": [50079],
        "timestamp": "2017-05-01 22:43:20Z",
        "suberror": "basic_action",
        "claims": '{"access_token":{"polids":{"essential":true,"values":["keep-me-out"]}}}',
    }
    async with exchanging(ENTRA, tmp_path, idp) as exchange:
        exchange.fails(0, 400, body)
        error = await exchange.refusal()
    assert error.reason is Reason.CREDENTIALS_REFUSED
    for text in ("400 (interaction_required)", "AADSTS50079", "basic_action", "sign in again"):
        assert text in f"{error}"
    assert not re.search(r"keep-me-out|Trace|the\.clients", f"{error} {caplog.text}")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"error_codes": [65001, 500131, 7000114, 50079]},
            "; AADSTS65001, AADSTS500131, AADSTS7000114",
        ),
        ({"error_codes": [True, "50079", None, 50079]}, ""),
        ({"error_codes": [-1, 10**9, 65001]}, "; AADSTS65001"),
        ({"error_codes": {"50079": 1}}, ""),
        ({"error_description": "AADSTS65001: The user … 'app-of-alice'."}, "; AADSTS65001"),
        ({"error_codes": [65001], "error_description": "AADSTS65001: x"}, "; AADSTS65001"),
        ({"error_codes": [50013], "error_description": "AADSTS50027: x"}, "; AADSTS50013, AADSTS5"),
        *(
            ({"error_description": hostile}, "")
            for hostile in (
                *("aadsts65001: x", " AADSTS65001: x", "x AADSTS65001: x", "AADSTS65001 x"),
                *("AADSTS: x", "AADSTS-1: x", "AADSTS0: x", "AADSTS650010000: x", "AADSTS65.0: x"),
                *("AADSTS\u0666\u0665: x", "AADSTS65001\n: x", "AADSTS6e5: x", ["AADSTS65001: x"]),
                *(
                    {"AADSTS65001": 1},
                    65001,
                    None,
                    True,
                    "",
                    "A" * 100_000,
                    f"AADSTS{'9' * 9_000}:",
                ),
            )
        ),
        ({"error_codes": None, "suberror": None, "claims": None}, ""),
        ({"suberror": "two words"}, ""),
        ({"suberror": TOKEN.reveal()}, ""),
        ({"suberror": ["consent_required"]}, ""),
        ({"claims": "{}"}, "; the user has to sign in again"),
        ([], ""),
        ("{", ""),
    ],
    ids=str,
)
async def test_what_else_entra_may_say(
    body: object, shown: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    if isinstance(body, dict):
        body = {"error": "invalid_grant", **body}
    async with exchanging(ENTRA, tmp_path, idp) as exchange:
        exchange.fails(0, 400, body.encode() if isinstance(body, str) else body)
        error = await exchange.refusal()
    _, _, more = error.detail.partition("answered 400")
    assert more.removeprefix(" (invalid_grant)").startswith(shown)
    assert shown or ";" not in more
    assert more.count("AADSTS65001") <= 1
    assert "alice" not in more


async def test_a_number_that_was_sent_is_not_shown(tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(ENTRA, tmp_path, idp) as exchange:
        exchange.fails(0, 400, {"error": "invalid_grant", "error_codes": [4321234]})
        error = await exchange.refusal(token=Secret("a.4321234.b"))
        exchange.fails(0, 400, {"error": "x", "error_description": "AADSTS4321234: x"})
        who = replace(ALICE, subject="other")
        described = await exchange.refusal(who=who, token=Secret("a.4321234.b"))
    assert "4321234" not in f"{error} {described}"


# Google Cloud


async def test_authsvc_is_no_client_of_google(tmp_path: Path, idp: IdentityProvider) -> None:
    """The reference of the method: the header Authorization can make the request fail."""
    async with exchanging(GCP, tmp_path, idp) as exchange:
        await exchange.issued()
        ((_, _, headers),) = exchange.sent(0)
    assert "Authorization" not in headers


async def test_the_federated_token_proves_who_asks(tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        await exchange.issued()
        ((_, _, headers),) = exchange.sent(1)
        assert headers["Authorization"] == f"Bearer {FEDERATED}"
        assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("left", "lifetime"), [(0.5, "1s"), (90.9, "90s"), (3_600, "3600s"), (86_400, "3600s")]
)
async def test_a_service_accounts_token_ends_with_the_clients(
    left: float, lifetime: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        await exchange.issued(who=replace(ALICE, expire_time=START + left))
        assert json.loads(exchange.sites[1].posted[0][1])["lifetime"] == lifetime


@pytest.mark.parametrize(
    ("status", "body", "reason", "setting"),
    [
        (403, "PERMISSION_DENIED", Reason.CREDENTIALS_REFUSED, "service_account"),
        (400, "INVALID_ARGUMENT", Reason.CREDENTIALS_REFUSED, "service_account"),
        (404, "NOT_FOUND", Reason.CREDENTIALS_UNAVAILABLE, "service_account"),
        (401, "UNAUTHENTICATED", Reason.CREDENTIALS_UNAVAILABLE, ""),
        (429, "RESOURCE_EXHAUSTED", Reason.CREDENTIALS_UNAVAILABLE, ""),
        (503, "UNAVAILABLE", Reason.CREDENTIALS_UNAVAILABLE, ""),
    ],
)
async def test_errors_of_googles_apis(
    status: int, body: str, reason: Reason, setting: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        said = {"error": {"code": status, "message": "Permission … denied", "status": body}}
        exchange.fails(1, status, said)
        error = await exchange.refusal()
    assert error.reason is reason
    assert f"answered {status} ({body})" in error.detail
    assert error.setting == (setting and f"credentials.exchange.{setting}")
    assert "Permission" not in error.detail


@pytest.mark.parametrize(
    "body", [None, [], {}, {"error": None}, {"error": "x"}, {"error": {"status": 7}}], ids=str
)
async def test_errors_of_another_form(body: object, tmp_path: Path, idp: IdentityProvider) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        exchange.fails(1, 403, body)
        error = await exchange.refusal()
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert error.detail.endswith("answered 403")


async def test_googles_api_is_unreachable(tmp_path: Path, idp: IdentityProvider) -> None:
    nowhere = {"service_account_endpoint": "http://127.0.0.1:1"}
    async with exchanging(GCP_ACCOUNT, tmp_path, idp, **nowhere) as exchange:
        error = await exchange.refusal()
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert FEDERATED not in f"{error}"


@pytest.mark.parametrize(
    ("expires", "left"),
    [
        ("%Y-%m-%dT%H:%M:%SZ", 60),
        ("%Y-%m-%dT%H:%M:%S.123456789Z", 60),
        ("%Y-%m-%dT%H:%M:%S+00:00", 0),
        ("%Y-%m-%d %H:%M:%SZ", 0),
        ("%Y-%m-%dT%H:%MZ", 0),
        ("%Y-13-%dT%H:%M:%SZ", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 0),
        ("", 0),
        (None, 0),
        (60, 0),
        (..., 0),
    ],
    ids=str,
)
async def test_when_a_service_accounts_token_expires(
    expires: object, left: int, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        if isinstance(expires, str):
            expires = datetime.fromtimestamp(START + 60, UTC).strftime(expires)
        exchange.answers(1, expireTime=expires)
        if left:
            assert (await exchange.issued()).expire_time == START + left
        else:
            error = await exchange.refusal()
            assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
            assert "expireTime" in error.detail


@pytest.mark.parametrize("token", [None, ..., "", 7, "two words", "a" * 70_000], ids=str)
async def test_a_service_accounts_token_that_is_none(
    token: object, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with exchanging(GCP_ACCOUNT, tmp_path, idp) as exchange:
        exchange.answers(1, accessToken=token)
        assert (await exchange.refusal()).reason is Reason.CREDENTIALS_UNAVAILABLE


# Secrets


@EACH_LEG
async def test_no_secret_is_logged_or_shown(
    case: Case,
    leg: int,
    tmp_path: Path,
    idp: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever an endpoint repeats of its request."""
    caplog.set_level(logging.DEBUG, "authsvc")
    errors: list[AuthError] = []
    async with exchanging(case, tmp_path, idp) as exchange:
        credentials = await exchange.issued()
        ((_, form, headers),) = exchange.sent(leg)
        secret = API_SECRET if case is ID_JAG and leg else SECRET
        repeated = {TOKEN.reveal(), ACTOR_TOKEN, ASSERTION} & {*form.values()} | {secret}
        repeated |= (
            {headers["Authorization"].partition(" ")[2]} if "Authorization" in headers else set()
        )
        for code in (it for value in repeated for it in (value, f"x.{value}")):
            said: dict[str, object] = {"error": code, "suberror": code, "error_codes": [code]}
            if case.requests[leg].document is not None:
                said = {"error": {"code": 400, "status": code, "message": code}}
            exchange.fails(leg, 400, said)
            # In the name of another principal, for whom nothing is cached.
            who = replace(ALICE, subject=f"user-{len(errors)}")
            errors.append(await exchange.refusal(who=who))
        shown = f"{caplog.text} {credentials!r} {exchange.broker!r} {vars(exchange.broker)!r}"
    shown += "".join(f"{error!r} {error} {error.setting}" for error in errors)
    assert not [value for value in (*repeated, API_TOKEN) if value in shown]
