"""Which credentials a principal would get: of one mind with the router and with each broker."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from authsvc.cli import main
from authsvc.credentials.routing import CredentialRouter
from authsvc.diagnosis.credentials import Expected, Issuance, expected_credentials
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings
from authsvc.server.config.credential_routes import routed_tables
from authsvc.server.config.credentials import CredentialSettings
from tests.authsvc.credentials.test_routes_as_configured import (
    PRINCIPALS,
    RESOURCES,
    Table,
    configurations,
    faults_of,
)
from tests.authsvc.credentials.test_routing import Recording
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:1"
"""Nothing listens there."""


@hypothesis_settings(max_examples=200)
@given(configurations)
def test_the_table_is_the_one_of_the_router(configuration: dict[str, list[Table]]) -> None:
    if faults_of(configuration):
        return
    tables = CredentialSettings.model_validate(configuration)
    router = CredentialRouter(it.route(Recording(it.label)) for it in routed_tables(tables))
    for who in PRINCIPALS:
        for resource in RESOURCES:
            for found in expected_credentials(tables, who, resource):
                assert found.table == routed(router, who, found, resource)


def routed(router: CredentialRouter, who: Principal, found: Expected, resource: str) -> str:
    try:
        route = router.route(who, found.name, resource)
    except AuthError as error:
        is_unknown = error.reason is Reason.ARGUMENT_INVALID
        return "" if is_unknown and found.issuance is Issuance.UNKNOWN_NAME else error.reason.name
    assert found.issuance is not Issuance.UNKNOWN_NAME
    return "" if route is None else route.table


def principal(**more: object) -> Principal:
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "subject": "alice",
        "expire_time": START + 600,
        "roles": ("reader",),
        "buckets": ("alpha",),
        "permissions": ("s3:GetObject",),
        "claims_json": b'{"team": "red", "scp": "read"}',
    }
    return Principal(**(fields | more))


TABLES: dict[str, dict[str, Any]] = {
    "sts": {
        "region": "eu-west-1",
        "endpoint_url": NOBODY,
        "access_key_id": "AKIA",
        "claim_tags": {"team": "team"},
        "roles": [
            {"issuer": ISSUER, "role": "reader", "arn": "arn:aws:iam::123456789012:role/reads"}
        ],
    },
    "sts with the client's token": {
        "region": "eu-west-1",
        "endpoint_url": NOBODY,
        "use_client_token": True,
        "roles": [{"issuer": ISSUER, "arn": "arn:aws:iam::123456789012:role/reads"}],
    },
    "exchange": {
        "endpoint": f"{NOBODY}/token",
        "issuers": [ISSUER],
        "client_id": "authsvc",
        "profile": "entra-obo",
        "scopes": ["api://x/.default"],
    },
}


@pytest.mark.parametrize(
    ("kind", "who", "issuance"),
    [
        ("sts", principal(), Issuance.ISSUED),
        ("sts", principal(roles=()), Issuance.NONE),
        ("sts", principal(issuer="https://other.example"), Issuance.NONE),
        ("sts", principal(buckets=()), Issuance.NONE),
        ("sts", principal(permissions=("s3:Nothing",)), Issuance.NONE),
        (
            "sts",
            principal(buckets=tuple(f"a-bucket-with-a-long-name-{n}" for n in range(99))),
            Issuance.REFUSED,
        ),
        ("sts", principal(claims_json=b"{}"), Issuance.REFUSED),
        ("sts with the client's token", principal(), Issuance.ISSUED),
        (
            "sts with the client's token",
            principal(claims_json=b'{"may_act": {"sub": "another"}}'),
            Issuance.REFUSED,
        ),
        ("exchange", principal(), Issuance.ISSUED),
        ("exchange", principal(issuer="https://other.example"), Issuance.NONE),
        ("exchange", principal(claims_json=b'{"idtyp": "app", "scp": "x"}'), Issuance.REFUSED),
        (
            "exchange",
            principal(claims_json=b'{"scp": "x", "may_act": {"sub": "another"}}'),
            Issuance.REFUSED,
        ),
    ],
)
async def test_what_it_says_is_what_the_broker_does(
    kind: str, who: Principal, issuance: Issuance, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret-of-authsvc")
    files = {"sts": "secret_access_key_file", "exchange": "client_secret_file"}
    table = TABLES[kind] | ({files[kind]: secret} if kind in files else {})
    kind = kind.partition(" ")[0]
    tables = CredentialSettings.model_validate({kind: [table]})
    # Of all settings, those of [credentials] alone are read.
    settings = cast("Settings", SimpleNamespace(credentials=tables))
    (found,) = expected_credentials(tables, who, RESOURCE)
    assert found.issuance is issuance
    assert found.table == f"credentials.{kind}[0]"
    with anyio.fail_after(TIMEOUT_SECONDS):
        assert await issued(settings, who) is issuance


async def issued(settings: Settings, who: Principal) -> Issuance:
    """What the broker of the configuration does: one that has to ask finds nobody."""
    async with open_broker(settings) as broker:
        assert broker is not None
        try:
            result = await broker.issue(
                who, token=Secret("a.b.c"), resource=RESOURCE, now=START, wanted=CredentialRequest()
            )
        except AuthError as error:
            return {
                Reason.CREDENTIALS_UNAVAILABLE: Issuance.ISSUED,
                Reason.CREDENTIALS_REFUSED: Issuance.REFUSED,
            }[error.reason]
    assert result is None
    return Issuance.NONE


# The command


@pytest.fixture
def provider() -> IdentityProvider:
    return IdentityProvider(time.time)


@pytest.fixture
def config(tmp_path: Path, provider: IdentityProvider) -> Path:
    secret = tmp_path / "client"
    secret.write_text("secret-of-authsvc")
    client = (
        f'issuers = ["{ISSUER}"]\nendpoint = "{NOBODY}/token"\nclient_id = "authsvc"\n'
        f'client_secret_file = "{secret}"\n'
    )
    path = tmp_path / "authsvc.toml"
    path.write_text(f"""\
resources = ["{RESOURCE}", "{OTHER_RESOURCE}"]
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{provider.write_secret(tmp_path)}"
[[credentials.static]]
role = "reader"
access_key_id = "AKIA"
secret_access_key_file = "{secret}"
[[credentials.exchange]]
name = "github"
resources = ["{RESOURCE}"]
for_roles = ["dev", "ops"]
for_scopes = ["repo"]
{client}
[[credentials.exchange]]
name = "calendar"
resources = ["{OTHER_RESOURCE}"]
{client}
""")
    return path


def invoked(config: Path, token: str, *arguments: str) -> Result:
    options = ["explain", "--config", str(config), "--resource", RESOURCE, *arguments]
    return CliRunner().invoke(main, options, input=token)


def test_explain_shows_each_name_and_why_not(config: Path, provider: IdentityProvider) -> None:
    ran = invoked(config, provider.token())
    assert ran.exit_code == 0
    lines = ran.output.partition("Its credentials")[2].splitlines()[1:]
    assert lines[0] == "  (no name)  credentials.static[0]: the access key of role reader"
    where = f"{RESOURCE} is not in the resources of credentials.exchange[1]"
    assert lines[1] == f"  calendar   unknown name: {where}"
    lacks = "the token lacks role dev or ops, and scope repo"
    assert lines[2:] == [f"  github     none: credentials.exchange[0]: {lacks}"]
    ran = invoked(config, provider.token(roles=["dev"], scope="repo"))
    lines = ran.output.partition("Its credentials")[2].splitlines()[1:]
    assert lines[0] == "  (no name)  none: credentials.static[0]: the token lacks role reader"
    assert lines[2] == f"  github     credentials.exchange[0]: a token of {NOBODY}/token (rfc8693)"


def test_explain_as_json(config: Path, provider: IdentityProvider) -> None:
    shown = json.loads(invoked(config, provider.token(), "--json").output)["credentials"]
    assert [(it["name"], it["issuance"], it["table"]) for it in shown] == [
        ("", "issued", "credentials.static[0]"),
        ("calendar", "unknown_name", None),
        ("github", "none", None),
    ]
