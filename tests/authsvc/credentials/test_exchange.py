"""The client's token exchanged for another, at a real endpoint (RFC 8693)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from authsvc.credentials import CredentialBroker
from authsvc.credentials.cache import FAILURE_SECONDS, RENEWAL_FRACTION
from authsvc.credentials.exchange.answers import DEFAULT_EXPIRES_IN_SECONDS
from authsvc.credentials.may_act import check_may_act
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, BearerCredentials, Principal, Secret
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

TOKEN = Secret("the.clients.token")
SECRET = "hush: a secret/with+signs"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


ALICE = Principal(ISSUER, "alice", START + 600)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        answers(running)
        yield running


def answers(site: Site, **changes: object) -> None:
    """The endpoint's response from now on; a member of None is left out."""
    said = {
        "access_token": "the-apis-token",
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": 3600,
        **changes,
    }
    body = json.dumps({name: value for name, value in said.items() if value is not None})
    site.answers["/token"] = Answer(body.encode())


def configured(folder: Path, idp: IdentityProvider, site: Site, **changes: object) -> Settings:
    secret = folder / "client.secret"
    if not secret.exists():
        secret.write_text(SECRET + "\n")
    table: dict[str, Any] = {
        "issuers": (ISSUER,),
        "endpoint": f"{site.url}/token",
        "client_id": "auth svc",
        "client_secret_file": secret,
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
    broker: CredentialBroker,
    who: Principal = ALICE,
    *,
    token: Secret = TOKEN,
    now: float = START,
) -> BearerCredentials:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        got = await broker.issue(who, token=token, resource=RESOURCE, now=now)
    assert isinstance(got, BearerCredentials)
    return got


async def refused(
    broker: CredentialBroker, who: Principal = ALICE, *, token: Secret = TOKEN
) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await issued(broker, who, token=token)
    return caught.value


def form(posted: tuple[Mapping[str, str], str]) -> dict[str, list[str]]:
    return parse_qs(posted[1], strict_parsing=True)


async def test_a_token_is_exchanged(broker: CredentialBroker, site: Site) -> None:
    credentials = await issued(broker)
    assert credentials == BearerCredentials(Secret("the-apis-token"), "Bearer", START + 600)
    (posted,) = site.posted
    assert form(posted) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "subject_token": ["the.clients.token"],
        "subject_token_type": [ACCESS_TOKEN],
        "requested_token_type": [ACCESS_TOKEN],
    }
    kind, _, pair = posted[0]["Authorization"].partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(pair).decode() == "auth+svc:hush%3A+a+secret%2Fwith%2Bsigns"


async def test_the_parameters_are_configured(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    settings = configured(
        tmp_path,
        idp,
        site,
        audience="the-api",
        api="https://api.example/v1",
        scopes=("read", "write"),
        subject_token_type="jwt",
    )
    async with broker_of(settings) as broker:
        await issued(broker)
    asked = form(site.posted[0])
    assert asked["audience"] == ["the-api"]
    assert asked["resource"] == ["https://api.example/v1"]
    assert asked["scope"] == ["read write"]
    assert asked["subject_token_type"] == ["urn:ietf:params:oauth:token-type:jwt"]


async def test_another_issuers_token_is_not_sent(broker: CredentialBroker, site: Site) -> None:
    who = Principal("https://other.example", "alice", START + 600)
    assert await broker.issue(who, token=TOKEN, resource=RESOURCE, now=START) is None
    assert not site.posted


# Claim may_act: the client is "auth svc".


def delegating(may_act: object) -> Principal:
    return replace(ALICE, claims_json=json.dumps({"may_act": may_act}).encode())


@pytest.mark.parametrize(
    "may_act",
    [
        None,
        {"sub": "auth svc"},
        {"client_id": "auth svc"},
        {"client_id": "auth svc", "sub": "service-account-7"},
        {"sub": "auth svc", "iss": ISSUER, "client_id": None, "email": 7},
    ],
)
async def test_a_token_that_authsvc_may_act_with_is_exchanged(
    broker: CredentialBroker, site: Site, may_act: object
) -> None:
    await issued(broker, delegating(may_act))
    assert len(site.posted) == 1


@pytest.mark.parametrize("may_act", [{"sub": ""}, {"client_id": ""}, {}])
def test_a_client_without_an_id_is_named_by_no_token(may_act: object) -> None:
    with pytest.raises(AuthError, match="does not name authsvc's client"):
        check_may_act(delegating(may_act), client_id="", setting="credentials.exchange.client_id")


@pytest.mark.parametrize(
    ("may_act", "fault"),
    [
        ({"sub": "other"}, "does not name authsvc's client"),
        ({"sub": "Auth svc"}, "does not name authsvc's client"),
        ({"client_id": "other", "sub": "auth svc"}, "does not name authsvc's client"),
        ({"client_id": "", "sub": "auth svc"}, "does not name authsvc's client"),
        ({"iss": ISSUER}, "does not name authsvc's client"),
        ({}, "does not name authsvc's client"),
        ({"sub": "auth svc", "iss": "https://other.example"}, "another issuer"),
        ({"sub": "auth svc", "iss": ISSUER + "/"}, "another issuer"),
        ({"sub": "auth svc", "iss": ""}, "another issuer"),
        ({"sub": ["auth svc"]}, "is not a string"),
        ({"sub": 7, "client_id": "auth svc"}, "is not a string"),
        ({"sub": "auth svc", "iss": 7}, "is not a string"),
        ("auth svc", "is not an object"),
        ([{"sub": "auth svc"}], "is not an object"),
        (False, "is not an object"),
    ],
    ids=str,
)
async def test_a_token_that_another_may_act_with_is_not_sent(
    broker: CredentialBroker,
    site: Site,
    caplog: pytest.LogCaptureFixture,
    may_act: object,
    fault: str,
) -> None:
    error = await refused(broker, delegating(may_act))
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert fault in error.detail
    assert error.setting == "credentials.exchange.client_id"
    assert not site.posted
    assert not caplog.messages  # the resolver logs what a request gets


async def test_the_name_of_the_claim_may_be_escaped(broker: CredentialBroker, site: Site) -> None:
    escaped = rb'{"may\u005fact": {"sub": "other"}}'
    error = await refused(broker, replace(ALICE, claims_json=escaped))
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert not site.posted


async def test_the_token_of_an_actor_is_exchanged(broker: CredentialBroker, site: Site) -> None:
    """The authorization server keeps the chain."""
    act = {"act": {"sub": "agent"}, "may_act": {"sub": "auth svc"}}
    who = replace(ALICE, actor=Actor("agent"), claims_json=json.dumps(act).encode())
    await issued(broker, who)
    assert len(site.posted) == 1


async def test_200_first_calls_are_one(broker: CredentialBroker, site: Site) -> None:
    site.hold.clear()
    asking = [asyncio.create_task(issued(broker)) for _ in range(200)]
    assert await asyncio.to_thread(site.arrived.wait, 10)
    asking[0].cancel()
    site.hold.set()
    assert len(await asyncio.gather(*asking[1:])) == 199
    assert len(site.posted) == 1


async def test_each_token_is_exchanged_for_its_own(broker: CredentialBroker, site: Site) -> None:
    await issued(broker)
    answers(site, access_token="another")
    assert (await issued(broker)).access_token == Secret("the-apis-token")
    other = await issued(broker, token=Secret("a.refreshed.token"))
    assert other.access_token == Secret("another")
    assert len(site.posted) == 2


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(3600, 600), (60, 60), (60.9, 60), (None, DEFAULT_EXPIRES_IN_SECONDS)],
)
async def test_how_long_it_lasts(
    broker: CredentialBroker, site: Site, expires_in: float | None, seconds: float
) -> None:
    answers(site, expires_in=expires_in)
    assert (await issued(broker)).expire_time == START + seconds


async def test_it_is_exchanged_again_before_it_ends(broker: CredentialBroker, site: Site) -> None:
    answers(site, expires_in=100)
    await issued(broker)
    due = START + 100 * RENEWAL_FRACTION
    site.arrived.clear()
    assert (await issued(broker, now=due)).expire_time == START + 100
    assert await asyncio.to_thread(site.arrived.wait, 10)
    assert (await issued(broker, now=START + 101)).expire_time >= due + 100
    assert len(site.posted) == 2


async def test_a_changed_secret_takes_effect_at_once(
    broker: CredentialBroker, site: Site, tmp_path: Path
) -> None:
    secret = tmp_path / "client.secret"
    secret.write_text("another")
    await issued(broker)
    assert base64.b64decode(site.posted[0][0]["Authorization"][6:]).endswith(b":another")
    secret.unlink()
    error = await refused(broker, token=Secret("a.refreshed.token"))
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert str(secret) in error.detail


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.CREDENTIALS_REFUSED),
        (403, Reason.CREDENTIALS_REFUSED),
        (401, Reason.CREDENTIALS_UNAVAILABLE),
        (404, Reason.CREDENTIALS_UNAVAILABLE),
        (429, Reason.CREDENTIALS_UNAVAILABLE),
        (302, Reason.CREDENTIALS_UNAVAILABLE),
        (500, Reason.CREDENTIALS_UNAVAILABLE),
        (503, Reason.CREDENTIALS_UNAVAILABLE),
    ],
)
async def test_the_reason_of_each_status(
    broker: CredentialBroker, site: Site, status: int, reason: Reason
) -> None:
    site.answers["/token"] = Answer(
        b'{"error":"keep-me-out"}', status, {"Location": f"{site.url}/elsewhere"}
    )
    for _ in range(5):
        error = await refused(broker)
        assert error.reason is reason
        assert str(status) in error.detail
    assert site.requests == ["/token"]
    answers(site)
    await issued(broker, now=START + FAILURE_SECONDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "two words"},
        {"access_token": "line\nbreak"},
        {"access_token": "a" * 70_000},
        {"token_type": None},
        {"token_type": "DPoP"},
        {"token_type": "N_A"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"issued_token_type": ["urn:ietf:params:oauth:token-type:access_token"]},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": True},
        {"expires_in": 1e300},
        {"expires_in": float("nan")},
    ],
    ids=str,
)
async def test_an_invalid_response(
    broker: CredentialBroker, site: Site, changes: dict[str, object]
) -> None:
    answers(site, **changes)
    assert (await refused(broker)).reason is Reason.CREDENTIALS_UNAVAILABLE


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html/>", b"\xff", b"[" * 100_000, b"1" * 10_000, b" " * 600_000]
)
async def test_no_response_at_all(broker: CredentialBroker, site: Site, body: bytes) -> None:
    site.answers["/token"] = Answer(body)
    assert (await refused(broker)).reason is Reason.CREDENTIALS_UNAVAILABLE


async def test_the_clients_own_token_is_not_accepted_in_exchange(
    broker: CredentialBroker, site: Site
) -> None:
    answers(site, access_token=TOKEN.reveal())
    assert (await refused(broker)).reason is Reason.CREDENTIALS_REFUSED


async def test_in_the_leeway_after_exp_the_token_has_expired(
    broker: CredentialBroker, site: Site
) -> None:
    error = await refused(broker, Principal(ISSUER, "alice", START))
    assert error.reason is Reason.TOKEN_EXPIRED
    assert not site.posted


async def test_nothing_listens(tmp_path: Path, idp: IdentityProvider, site: Site) -> None:
    settings = configured(tmp_path, idp, site, endpoint="http://127.0.0.1:1/token")
    async with broker_of(settings) as broker:
        assert (await refused(broker)).reason is Reason.CREDENTIALS_UNAVAILABLE


def test_a_private_address_takes_a_setting(
    tmp_path: Path, idp: IdentityProvider, site: Site
) -> None:
    private: dict[str, object] = {"endpoint": "https://10.0.0.1/token"}
    with pytest.raises(ValidationError, match="set allow_private_addresses = true"):
        configured(tmp_path, idp, site, **private)
    configured(tmp_path, idp, site, **private, allow_private_addresses=True)


async def test_no_secret_is_logged_or_shown(
    broker: CredentialBroker, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "authsvc")
    credentials = await issued(broker)
    site.answers["/token"] = Answer(b'{"error_description":"keep-me-out"}', 400)
    error = await refused(broker, token=Secret("a.refreshed.token"))
    shown = f"{caplog.text} {credentials!r} {broker.__dict__!r} {error!r} {error}"
    for secret in (SECRET, TOKEN.reveal(), "a.refreshed.token", "the-apis-token", "keep-me-out"):
        assert secret not in shown
