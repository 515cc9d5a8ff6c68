"""Brokers as configured: which one a resource has, and what stops the start."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from authsvc.common.settings import ConfigError
from authsvc.credentials.cache import CacheCounts
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Principal, Secret
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings
from authsvc.telemetry.metrics import Metrics
from tests.authsvc.credentials.conftest import FakeSts
from tests.support.clock import START
from tests.support.http import Answer, serving_http
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ROLE = {"issuer": ISSUER, "role": "reader", "arn": "arn:aws:iam::123456789012:role/reader"}
ALICE = Principal(ISSUER, "alice", START + 600, "", (), ("reader",), ("alpha",), ("s3:GetObject",))
TOKEN = Secret("a.b.c")
TOKEN_DIGEST = sha256(b"t").digest()
"""Of the token that is issued."""


def static(folder: Path) -> dict[str, Any]:
    (folder / "static.key").write_text("static")
    return {
        "role": "reader",
        "access_key_id": "AKIASTATIC",
        "secret_access_key_file": folder / "static.key",
    }


def sts(folder: Path, **changes: object) -> dict[str, Any]:
    (folder / "aws.key").write_text("ours")
    table = {
        "region": "eu-west-1",
        "access_key_id": "AKIAAUTHSVC",
        "secret_access_key_file": folder / "aws.key",
        "roles": [ROLE],
        **changes,
    }
    return {name: value for name, value in table.items() if value is not None}


def exchange(folder: Path, **changes: object) -> dict[str, Any]:
    (folder / "client.secret").write_text("ours")
    return {
        "issuers": [ISSUER],
        "endpoint": "https://idp.example/token",
        "client_id": "authsvc",
        "client_secret_file": folder / "client.secret",
        **changes,
    }


def configured(folder: Path, idp: IdentityProvider, **tables: object) -> Settings:
    return settings_for(folder, idp, credentials=tables)


async def test_none_is_configured(tmp_path: Path, idp: IdentityProvider) -> None:
    async with open_broker(configured(tmp_path, idp)) as broker:
        assert broker is None


async def test_static_ones(tmp_path: Path, idp: IdentityProvider) -> None:
    async with open_broker(configured(tmp_path, idp, static=[static(tmp_path)])) as broker:
        assert broker is not None
        got = await broker.issue(ALICE, token=TOKEN, resource=RESOURCE, now=START)
    assert isinstance(got, AwsCredentials)
    assert (got.access_key_id, got.expire_time) == ("AKIASTATIC", START + 600)


async def test_each_resource_has_its_own(
    tmp_path: Path, idp: IdentityProvider, fake_sts: FakeSts
) -> None:
    fake_sts.clock_time = START
    with serving_http() as site:
        site.answers["/token"] = Answer(
            b'{"access_token":"t","token_type":"bearer","issued_token_type":'
            b'"urn:ietf:params:oauth:token-type:access_token"}'
        )
        settings = configured(
            tmp_path,
            idp,
            sts=[sts(tmp_path, endpoint_url=fake_sts.url)],
            exchange=[exchange(tmp_path, resources=[OTHER_RESOURCE], endpoint=f"{site.url}/token")],
        )
        async with open_broker(settings) as broker:
            assert broker is not None
            one = await broker.issue(ALICE, token=TOKEN, resource=RESOURCE, now=START)
            other = await broker.issue(ALICE, token=TOKEN, resource=OTHER_RESOURCE, now=START)
    assert isinstance(one, AwsCredentials)
    assert isinstance(other, BearerCredentials)


async def test_a_named_one_is_counted_by_its_name_and_replaced_when_it_is_rejected(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    metrics = Metrics()
    with serving_http() as site:
        site.answers["/token"] = Answer(b'{"access_token":"t","token_type":"bearer"}')
        table = exchange(tmp_path, name="api", resources=[RESOURCE], endpoint=f"{site.url}/token")
        settings = configured(tmp_path, idp, exchange=[table])
        async with open_broker(settings, metrics.issuing_of) as broker:
            assert broker is not None
            for now, rejected in ((START, b""), (START + 60, b""), (START + 60, TOKEN_DIGEST)):
                got = await broker.issue(
                    ALICE,
                    token=TOKEN,
                    resource=RESOURCE,
                    now=now,
                    wanted=CredentialRequest("api", rejected=rejected),
                )
                assert isinstance(got, BearerCredentials)
    counts = metrics.issuing["api"]
    assert (counts.name, counts.issued, counts.hits, counts.misses) == ("api", 2, 1, 2)
    assert metrics.issuing[""] == CacheCounts()


async def test_a_resource_of_no_table_has_no_credentials(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    settings = configured(tmp_path, idp, exchange=[exchange(tmp_path, resources=[RESOURCE])])
    async with open_broker(settings) as broker:
        assert broker is not None
        assert await broker.issue(ALICE, token=TOKEN, resource=OTHER_RESOURCE, now=START) is None


async def test_a_principal_without_credentials_of_its_broker_gets_none_of_another(
    tmp_path: Path, idp: IdentityProvider, fake_sts: FakeSts
) -> None:
    """If a resource's broker issues nothing, no other one is called."""
    settings = configured(
        tmp_path,
        idp,
        static=[static(tmp_path)],
        sts=[
            sts(
                tmp_path,
                endpoint_url=fake_sts.url,
                resources=[RESOURCE],
                roles=[{**ROLE, "role": "analyst"}],
            )
        ],
    )
    async with open_broker(settings) as broker:
        assert broker is not None
        assert await broker.issue(ALICE, token=TOKEN, resource=RESOURCE, now=START) is None
        assert await broker.issue(ALICE, token=TOKEN, resource=OTHER_RESOURCE, now=START)


OF_CLIENTS: dict[str, object] = {
    "access_key_id": None,
    "secret_access_key_file": None,
    "use_client_token": True,
}
OF_POD: dict[str, object] = {
    "access_key_id": None,
    "secret_access_key_file": None,
    "web_identity_token_file": "/token",
}


@pytest.mark.parametrize(
    "changes",
    [
        OF_CLIENTS,
        OF_CLIENTS | {"buckets_by": "role"},
        {"buckets_by": "role", "claim_tags": {"team": "team"}},
        {"claim_tags": {f"t{n}": "/a/b" for n in range(45)}, "session_tags": False},
    ],
)
def test_tables_of_sts_that_are_complete(
    tmp_path: Path, idp: IdentityProvider, changes: dict[str, object]
) -> None:
    configured(tmp_path, idp, sts=[sts(tmp_path, **changes)])


async def test_a_table_is_a_broker_of_its_settings(
    tmp_path: Path, idp: IdentityProvider, fake_sts: FakeSts
) -> None:
    fake_sts.clock_time = START
    who = replace(ALICE, claims_json=b'{"at":{"team":["blue"]}}')
    by_role = {"buckets_by": "role", "claim_tags": {"team": "/at/team"}}
    for changes in (by_role, OF_CLIENTS):
        table = sts(tmp_path, endpoint_url=fake_sts.url, **changes)
        async with open_broker(configured(tmp_path, idp, sts=[table])) as broker:
            assert broker is not None
            await broker.issue(who, token=Secret("a.b.c"), resource=RESOURCE, now=START)
    by_tags, by_token = fake_sts.calls
    assert "blue" in by_tags.values()
    assert json.loads(by_tags["Policy"])["Statement"][0]["Resource"] == "*"
    assert by_token["WebIdentityToken"] == "a.b.c"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"access_key_id": None}, "exactly one of"),
        ({"ambient": True}, "exactly one of"),
        ({"web_identity_token_file": "token"}, "exactly one of"),
        ({"use_client_token": True}, "exactly one of"),
        (OF_CLIENTS | {"session_tags": True}, r"(?s)session_tags.*AssumeRoleWithWebIdentity"),
        (OF_CLIENTS | {"source_identity": True}, r"(?s)source_identity.*AssumeRoleWithWebIdentity"),
        (
            OF_CLIENTS | {"claim_tags": {"team": "team"}},
            r"(?s)claim_tags.*AssumeRoleWithWebIdentity",
        ),
        (OF_POD | {"claim_tags": {"team": "team"}}, r"(?s)claim_tags.*AssumeRoleWithWebIdentity"),
        (OF_POD | {"buckets_by": "role"}, "needs claim_tags"),
        ({"buckets_by": "role"}, "needs claim_tags"),
        ({"buckets_by": "token"}, "buckets_by"),
        ({"claim_tags": {"Actor": "act"}}, "a tag of authsvc's own"),
        ({"claim_tags": {"team": "team", "Team": "x"}}, "differ in case"),
        ({"claim_tags": {"aws:team": "team"}}, "is a tag's key"),
        ({"claim_tags": {"te*m": "team"}}, "is a tag's key"),
        ({"claim_tags": {"t" * 129: "team"}}, "is a tag's key"),
        ({"claim_tags": {"team": ""}}, "is a claim's name"),
        ({"claim_tags": {"team": "/a~b"}}, "JSON Pointer"),
        ({"claim_tags": {f"t{n}": "team" for n in range(46)}}, "50 tags at most"),
        ({"secret_access_key_file": None}, "go together"),
        ({"access_key_id": None, "ambient": True}, "go together"),
        ({"roles": []}, "roles"),
        ({"roles": [ROLE, ROLE]}, "same issuer and role"),
        ({"roles": [{**ROLE, "arn": "arn:aws:iam::123456789012:user/reader"}]}, "arn"),
        ({"roles": [{**ROLE, "arn": "*"}]}, "arn"),
        ({"roles": [{**ROLE, "max_seconds": 60}]}, "max_seconds"),
        ({"region": "../"}, "region"),
        ({"region": None}, "region"),
    ],
)
def test_tables_of_sts_that_are_not_complete(
    tmp_path: Path, idp: IdentityProvider, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        configured(tmp_path, idp, sts=[sts(tmp_path, **changes)])


def test_two_tables_for_one_resource(tmp_path: Path, idp: IdentityProvider) -> None:
    with pytest.raises(ValidationError, match="a table of another kind"):
        configured(tmp_path, idp, static=[static(tmp_path)], sts=[sts(tmp_path)])
    with pytest.raises(ValidationError, match="a table of another kind"):
        configured(
            tmp_path,
            idp,
            sts=[sts(tmp_path, resources=[RESOURCE])],
            exchange=[exchange(tmp_path, resources=[RESOURCE])],
        )


async def fails_to_start(settings: Settings) -> str:
    with pytest.raises(ConfigError) as caught:
        async with open_broker(settings):
            pass
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret_access_key_file": "/nowhere"}, "credentials.sts.secret_access_key_file"),
        ({"session_token_file": "/nowhere"}, "credentials.sts.session_token_file"),
        (
            {
                "access_key_id": None,
                "secret_access_key_file": None,
                "web_identity_token_file": "/nowhere",
            },
            "credentials.sts.web_identity_token_file",
        ),
    ],
)
async def test_what_is_wrong_with_sts_stops_the_start(
    tmp_path: Path, idp: IdentityProvider, changes: dict[str, object], said: str
) -> None:
    settings = configured(tmp_path, idp, sts=[sts(tmp_path, **changes)])
    assert said in await fails_to_start(settings)


async def test_an_exchange_without_its_secret_stops_the_start(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    changes = {"client_secret_file": "/nowhere"}
    settings = configured(tmp_path, idp, exchange=[exchange(tmp_path, **changes)])
    assert "credentials.exchange.client_secret_file" in await fails_to_start(settings)


async def test_a_machines_own_credentials_take_a_setting(
    tmp_path: Path, idp: IdentityProvider, fake_sts: FakeSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    fake_sts.clock_time = START
    changes = {"access_key_id": None, "secret_access_key_file": None, "ambient": True}
    settings = configured(tmp_path, idp, sts=[sts(tmp_path, endpoint_url=fake_sts.url, **changes)])
    async with open_broker(settings) as broker:
        assert broker is not None
        await broker.issue(ALICE, token=TOKEN, resource=RESOURCE, now=START)
    assert "Credential=AKIAAMBIENT/" in fake_sts.signers[0]


@pytest.mark.parametrize("variables", [{}, {"AWS_PROFILE": "nobody"}])
async def test_a_machine_without_credentials_stops_the_start(
    tmp_path: Path,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    changes = {"access_key_id": None, "secret_access_key_file": None, "ambient": True}
    settings = configured(tmp_path, idp, sts=[sts(tmp_path, **changes)])
    assert "credentials.sts.ambient" in await fails_to_start(settings)
