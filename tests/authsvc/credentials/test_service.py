"""The whole service: a resolve answers with a role's credentials, and no log shows them."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from authsvc.client import AuthClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials
from demo.s3 import serving_s3
from tests.authsvc.credentials.conftest import FakeSts
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.stack import RESOURCE as LOCAL_RESOURCE
from tests.support.stack import ROLES, start_authsvc
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ARN = "arn:aws:iam::123456789012:role/reader"


def table(folder: Path, url: str) -> dict[str, object]:
    (folder / "aws.key").write_text("our-own-secret")
    return {
        "region": "us-east-1",
        "endpoint_url": url,
        "access_key_id": "AKIAAUTHSVC",
        "secret_access_key_file": folder / "aws.key",
        "roles": [{"issuer": ISSUER, "role": "reader", "arn": ARN}],
    }


async def test_each_request_gets_what_its_own_token_allows(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, fake_sts: FakeSts
) -> None:
    """Two users with overlapping buckets, many requests at once: each its own, one call a token."""
    fake_sts.clock_time = clock()
    settings = settings_for(tmp_path, idp, credentials={"sts": [table(tmp_path, fake_sts.url)]})
    tokens = [
        idp.token("alice", buckets=["alpha", "beta"]),
        idp.token("bob", buckets=["beta", "gamma"]),
        idp.token("alice", buckets=["alpha"], ttl_seconds=500),
    ]
    async with asyncio.timeout(TIMEOUT_SECONDS), serving(settings, clock) as service:
        answers = await asyncio.gather(
            *(
                service.client.resolve("", tokens[number % 3], resource=RESOURCE)
                for number in range(60)
            )
        )
    got = [answer.credentials for answer in answers]
    keys = []
    for number, credentials in enumerate(got):
        assert isinstance(credentials, AwsCredentials)
        assert credentials.expire_time == clock() + (500 if number % 3 == 2 else 600)
        keys.append(credentials.access_key_id)
    assert [len({*keys[number::3]}) for number in range(3)] == [1, 1, 1]
    assert len({*keys}) == len(fake_sts.calls) == 3


async def test_a_principal_without_buckets_is_served_without_credentials(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, fake_sts: FakeSts
) -> None:
    settings = settings_for(tmp_path, idp, credentials={"sts": [table(tmp_path, fake_sts.url)]})
    async with asyncio.timeout(TIMEOUT_SECONDS), serving(settings, clock) as service:
        answer = await service.client.resolve("", idp.token(buckets=[]), resource=RESOURCE)
    assert answer.principal is not None
    assert answer.credentials is None
    assert not fake_sts.calls


async def test_a_rejection_reaches_the_caller_without_its_detail(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, fake_sts: FakeSts
) -> None:
    fake_sts.errors = [(403, "AccessDenied")]
    settings = settings_for(tmp_path, idp, credentials={"sts": [table(tmp_path, fake_sts.url)]})
    async with asyncio.timeout(TIMEOUT_SECONDS), serving(settings, clock) as service:
        with pytest.raises(AuthError) as refused:
            await service.client.resolve("", idp.token(), resource=RESOURCE)
    assert refused.value.reason is Reason.CREDENTIALS_REFUSED
    assert ARN not in str(refused.value)


async def test_a_process_at_debug_logs_no_secret(tmp_path: Path) -> None:
    idp = IdentityProvider(time.time)
    idp.write_secret(tmp_path)
    for role in ROLES:
        (tmp_path / f"{role}.key").write_text("static")
    (tmp_path / "aws.key").write_text("our-own-secret")
    with ExitStack() as running:
        sts = running.enter_context(serving_s3({}))
        tables = f"""
[[credentials.sts]]
resources = ["{LOCAL_RESOURCE}"]
region = "us-east-1"
endpoint_url = "{sts}"
access_key_id = "AKIAAUTHSVC"
secret_access_key_file = "{tmp_path}/aws.key"
[[credentials.sts.roles]]
issuer = "{ISSUER}"
arn = "{ARN}"
"""
        callers = f'resources = ["{LOCAL_RESOURCE}", "{OTHER_RESOURCE}"]'
        process, address = start_authsvc(tmp_path, running, callers=callers, tables=tables)
        token = idp.token(aud=LOCAL_RESOURCE)
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            AuthClient(address, deadline_seconds=TIMEOUT_SECONDS) as client,
        ):
            answer = await client.resolve("", token, resource=LOCAL_RESOURCE)
        credentials = answer.credentials
        assert isinstance(credentials, AwsCredentials)
        assert credentials.session_token is not None
        process.end()
        for secret in (
            "our-own-secret",
            token,
            credentials.secret_access_key.reveal(),
            credentials.session_token.reveal(),
        ):
            assert secret not in process.output
        assert "listening on" in process.output
