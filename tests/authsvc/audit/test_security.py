"""Security events are as documented, and free of secrets."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from authsvc.audit.security import OF_FILE, SecurityEvent, SecurityEventType
from authsvc.domain.errors import AuthError
from authsvc.server.running import configuration_digest
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.processes import spawn
from tests.support.service import Service, serving, settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

EVERY_FIELD = {
    *("timestamp", "level", "logger", "event"),
    *(field.name for field in dataclasses.fields(SecurityEvent)),
}


@pytest.fixture
async def service(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Service]:
    async with serving(settings_for(tmp_path, idp), clock) as running_service:
        yield running_service


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """The events since the service started, without their empty fields, and without those of
    sessions that nobody revoked."""
    names = [field.name for field in dataclasses.fields(SecurityEvent)]
    found = [
        {name: str(record.__dict__[name]) for name in names if record.__dict__[name]}
        for record in caplog.records
        if record.name == "authsvc.security"
    ]
    ignored = {SecurityEventType.SERVICE_STARTED, *OF_FILE}
    return [event for event in found if event["event_type"] not in ignored]


async def test_a_rejected_token(
    service: Service, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(AuthError):
        await service.client.resolve("0123456789", idp.forged(), resource=RESOURCE, create=True)
    assert events(caplog) == [
        {
            "event_type": "TOKEN_REJECTED",
            "reason": "TOKEN_SIGNATURE_INVALID",
            "caller": "local",
            "session": "01234567…",
            "resource": RESOURCE,
        }
    ]


async def test_another_subject(
    service: Service, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await service.client.resolve("0123456789", idp.token(), resource=RESOURCE, create=True)
    with pytest.raises(AuthError):
        await service.client.resolve(
            "0123456789", idp.token("mallory", jti="j1", client_id="app1"), resource=RESOURCE
        )
    assert events(caplog) == [
        {
            "event_type": "SUBJECT_MISMATCH",
            "reason": "SESSION_SUBJECT_MISMATCH",
            "caller": "local",
            "session": "01234567…",
            "resource": RESOURCE,
            "issuer": ISSUER,
            "subject": "mallory",
            "client_id": "app1",
            "token_id": "j1",
        }
    ]


async def test_a_revocation_is_audited_once(
    service: Service, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await service.client.resolve("0123456789", idp.token(), resource=RESOURCE, create=True)
    await service.client.revoke("0123456789")
    await service.client.revoke("0123456789")
    assert events(caplog) == [
        {
            "event_type": "SESSION_REVOKED",
            "caller": "local",
            "session": "01234567…",
            "resource": RESOURCE,
            "issuer": ISSUER,
            "subject": "alice",
            "client_id": "client",
        }
    ]


async def test_a_caller_for_another_resource(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(AuthError):
        await service.client.resolve("s", "", resource="https://else.example/mcp")
    (event,) = events(caplog)
    assert event["event_type"] == "CALLER_DENIED"
    assert event["resource"] == "https://else.example/mcp"
    assert "; from unix:" in event["detail"]


async def test_a_served_request_is_no_event(
    service: Service, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = idp.token()
    for resource in (RESOURCE, OTHER_RESOURCE):
        await service.client.resolve("s", "", resource=resource, create=True)
    await service.client.resolve("s", token, resource=RESOURCE)
    await service.client.resolve("s", token, resource=RESOURCE)
    with pytest.raises(AuthError):
        await service.client.resolve("unknown", token, resource=RESOURCE)
    assert events(caplog) == []


def test_all_workers_report_one_configuration(tmp_path: Path, idp: IdentityProvider) -> None:
    def digest(port: int, level: str = "info") -> str:
        tables = {"metrics": {"listen": f"127.0.0.1:{port}"}, "log_level": level}
        return configuration_digest(settings_for(tmp_path, idp, "memory", **tables))

    assert digest(9464) == digest(9465)
    assert digest(9464) != digest(9464, "debug")


@pytest.mark.parametrize("audit_format", ["json", "ocsf"])
def test_the_file_has_every_event_with_every_field(tmp_path: Path, audit_format: str) -> None:
    idp = IdentityProvider(time.time)
    idp.write_secret(tmp_path)
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f"""
listen = "127.0.0.1:0"
resources = ["{RESOURCE}"]
log_level = "error"
audit_file = "{tmp_path}/audit/events.jsonl"
audit.format = "{audit_format}"
[store]
kind = "memory"
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{tmp_path}/secret"
"""
    )
    forged = idp.forged()
    path = tmp_path / "audit" / "events.jsonl"
    path.parent.mkdir()
    path.touch(mode=0o644)
    with spawn("authsvc", "serve", "--config", str(config)) as process:
        address = process.wait_for("the service has started", TIMEOUT_SECONDS)["detail"].split()[0]
        with grpc.insecure_channel(address) as channel:
            stub = pb_grpc.AuthServiceStub(channel)
            request = pb.ResolveSessionRequest(token=forged, resource=RESOURCE)
            with pytest.raises(grpc.RpcError):
                stub.ResolveSession(request, timeout=TIMEOUT_SECONDS)
        process.wait_for("a token was rejected", TIMEOUT_SECONDS)
    assert path.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if audit_format == "ocsf":
        assert [line["class_name"] for line in lines] == ["Application Lifecycle", "Authentication"]
        details = [line["status_detail"] for line in lines[:1]]
    else:
        assert [line["event_type"] for line in lines] == ["SERVICE_STARTED", "TOKEN_REJECTED"]
        details = [line["detail"] for line in lines[:1]]
        for line in lines:
            assert set(line) == EVERY_FIELD
    assert re.search(r" version=\S+ configuration_sha256=[0-9a-f]{64}$", details[0])
    assert forged.rpartition(".")[2] not in path.read_text()
