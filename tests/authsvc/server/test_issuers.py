"""Issuers as configured, in a running service."""

from __future__ import annotations

import logging
from pathlib import Path
from secrets import token_hex
from typing import Any

import jwt as pyjwt
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsvc.client import AuthClient
from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError, Reason
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.tokens.secret_files import SecretFiles
from authsvc.tokens.sources import FileKeys
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.http import Answer, serving_http
from tests.support.keys import jwks, signer
from tests.support.service import serving, settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

SIGNER = signer("k1")


def configured(tmp_path: Path, idp: IdentityProvider, **issuer: object) -> Settings:
    common = {"issuer": ISSUER, "algorithms": ["ES256"]}
    return settings_for(tmp_path, idp, issuers=[{**common, **issuer}])


async def health_of(address: str) -> int:
    async with aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are without methods
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
    return int(answer.status)


async def test_keys_are_fetched_before_it_reports_serving(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    with serving_http() as site:
        site.answers["/jwks"] = Answer(jwks(SIGNER))
        settings = configured(tmp_path, idp, jwks_url=f"{site.url}/jwks")
        async with serving(settings, clock) as service:
            assert site.requests == ["/jwks"]
            assert await health_of(service.address) == health_pb2.HealthCheckResponse.SERVING
            answer = await service.client.resolve("", SIGNER.token(START), resource=RESOURCE)
            assert answer.principal is not None


async def test_without_keys_it_does_not_report_serving_nor_reject_tokens(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    with serving_http() as site:
        settings = configured(tmp_path, idp, jwks_url=f"{site.url}/jwks")
        async with running(settings, clock=clock) as address:
            assert await health_of(address) == health_pb2.HealthCheckResponse.NOT_SERVING
            async with AuthClient(address, deadline_seconds=TIMEOUT_SECONDS) as client:
                with pytest.raises(AuthError) as caught:
                    await client.resolve("", SIGNER.token(START), resource=RESOURCE)
            assert caught.value.reason is Reason.KEYS_UNAVAILABLE
            assert caught.value.retry_after_seconds is not None


async def test_an_issuer_is_discovered(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> None:
    with serving_http() as site:
        site.answers["/jwks"] = Answer(jwks(SIGNER))
        site.answers["/.well-known/openid-configuration"] = Answer(
            f'{{"issuer": "{site.url}", "jwks_uri": "{site.url}/jwks"}}'.encode()
        )
        settings = configured(tmp_path, idp, issuer=site.url, discover=True)
        async with serving(settings, clock) as service:
            token = SIGNER.token(START, iss=site.url)
            answer = await service.client.resolve("", token, resource=RESOURCE)
            assert answer.principal is not None
            assert answer.principal.issuer == site.url


async def test_audiences_and_types_are_as_configured(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(SIGNER))
    settings = configured(
        tmp_path,
        idp,
        jwks_file=path,
        audiences={RESOURCE: ["api://buckets", "api://old"]},
    )
    async with serving(settings, clock) as service:
        for audience, resource, good in (
            ("api://buckets", RESOURCE, True),
            (["x", "api://old"], RESOURCE, True),
            (RESOURCE, RESOURCE, False),
            ("api://buckets", OTHER_RESOURCE, False),
            (OTHER_RESOURCE, OTHER_RESOURCE, True),
        ):
            token = SIGNER.token(START, aud=audience)
            if good:
                await service.client.resolve("", token, resource=resource)
                continue
            with pytest.raises(AuthError) as caught:
                await service.client.resolve("", token, resource=resource)
            assert caught.value.reason is Reason.TOKEN_AUDIENCE_MISMATCH


async def test_at_jwt_can_be_required(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(SIGNER))
    settings = configured(tmp_path, idp, jwks_file=path, accepted_types=["at+jwt"])
    async with serving(settings, clock) as service:
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("", SIGNER.token(START), resource=RESOURCE)
        assert caught.value.reason is Reason.TOKEN_MALFORMED


async def test_the_longest_token_is_a_setting(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    async with serving(settings_for(tmp_path, idp, max_token_bytes=1024), clock) as service:
        await service.client.resolve("", idp.token(), resource=RESOURCE)
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("", idp.token(note="x" * 1024), resource=RESOURCE)
        assert caught.value.reason is Reason.TOKEN_TOO_LARGE


async def test_removing_a_file_withdraws_its_previous_secret(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    secrets = {name: token_hex(16) for name in ("current", "previous")}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret)
    settings = configured(
        tmp_path,
        idp,
        algorithms=["HS256"],
        secret_file=tmp_path / "current",
        previous_secret_files=[tmp_path / "previous"],
    )
    claims = {"iss": ISSUER, "sub": "alice", "aud": RESOURCE, "iat": START, "exp": START + 600}
    current, previous = (pyjwt.encode(claims, secret, "HS256") for secret in secrets.values())
    async with serving(settings, clock) as service:
        for token in (current, previous):
            await service.client.resolve("", token, resource=RESOURCE)
        (tmp_path / "previous").unlink()
        clock.advance(2)
        await service.client.resolve("", current, resource=RESOURCE)
        with pytest.raises(AuthError) as caught:
            await service.client.resolve("", previous, resource=RESOURCE)
        assert caught.value.reason is Reason.TOKEN_SIGNATURE_INVALID
    # To name one that is not there is a mistake all the same.
    with pytest.raises(ConfigError, match="previous: No such file"):
        async with running(settings, clock=clock):
            pass


async def test_a_secret_that_is_rejected_is_not_reported_as_reloaded(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="authsvc")
    path = tmp_path / "secret"
    path.write_text(token_hex(32))
    source = FileKeys([path], SecretFiles(path).load)
    before = source.current(clock())
    for written in ("secret" * 6, "secrets" * 6):
        path.write_text(written)
        clock.advance(2)
        assert source.current(clock()) == before
    assert caplog.text.count("the current secret stays") == 2
    assert "reloaded" not in caplog.text
    path.write_text(token_hex(32))
    clock.advance(2)
    assert source.current(clock()) != before
    assert caplog.text.count("keys reloaded") == 1


async def test_at_least_one_issuer_is_required(tmp_path: Path, idp: IdentityProvider) -> None:
    with pytest.raises(ValueError, match=r"needs \[\[issuers\]\] or \[introspection\]"):
        settings_for(tmp_path, idp, issuers=[])


@pytest.mark.parametrize(
    ("issuer", "complaint"),
    [
        ({"jwks_file": Path("nowhere")}, "jwks_file: nowhere: No such file"),
        (
            {"algorithms": ["HS256"], "secret_file": Path("nowhere")},
            "secret_file: nowhere: No such file",
        ),
    ],
)
async def test_unusable_keys_stop_the_start(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    issuer: dict[str, object],
    complaint: str,
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        async with running(configured(tmp_path, idp, **issuer), clock=clock):
            pass


async def test_a_missing_previous_secret_is_named_by_its_own_setting(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    secrets = {
        "algorithms": ["HS256"],
        "secret_file": idp.write_secret(tmp_path),
        "previous_secret_files": [Path("nowhere")],
    }
    with pytest.raises(ConfigError, match=r"\.previous_secret_files: nowhere: No such file"):
        async with running(configured(tmp_path, idp, **secrets), clock=clock):
            pass
