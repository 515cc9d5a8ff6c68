"""The real process: what it serves, how it starts and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process, spawn
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

TIMEOUT = TIMEOUT_SECONDS


def write_config(folder: Path, *, listen: str = "127.0.0.1:0", extra: str = "") -> Path:
    path = folder / "authsvc.toml"
    path.write_text(
        f"""
listen = "{listen}"
resources = ["{RESOURCE}"]
log_level = "debug"
{extra}
[store]
path = "{folder}/authsvc.db"
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"
[development]
issuer = "{ISSUER}"
audience = "{RESOURCE}"
roles = ["reader"]
buckets = ["alpha", "beta"]
permissions = ["s3:ListBucket"]
scopes = ["buckets.read"]
"""
    )
    return path


@pytest.fixture
def real_idp(tmp_path: Path) -> IdentityProvider:
    provider = IdentityProvider(time.time)
    provider.write_secret(tmp_path)
    return provider


@contextmanager
def authsvc(config: Path) -> Iterator[tuple[Process, str]]:
    with spawn("authsvc", "serve", "--config", str(config)) as process:
        yield process, str(process.wait_for("listening on", TIMEOUT)["address"])


def stub(address: str) -> pb_grpc.AuthServiceStub:
    return pb_grpc.AuthServiceStub(grpc.insecure_channel(address))


def resolve(
    service: pb_grpc.AuthServiceStub, session_id: str, token: str = "", *, create: bool = False
) -> pb.ResolveSessionResponse:
    return service.ResolveSession(
        pb.ResolveSessionRequest(
            session_id=session_id, token=token, resource=RESOURCE, create=create
        ),
        timeout=TIMEOUT,
        wait_for_ready=True,
    )


@dataclass
class Refused:
    """What a caller sees of an error."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""


def refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value  # grpcio raises what is a Call, too; the stubs deny it
    refused = Refused(error.code(), error.details())
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    if status.details and status.details[0].Unpack(info):
        refused.reason, refused.domain = info.reason, info.domain
    return refused


def test_it_serves_with_health_and_reflection(tmp_path: Path, real_idp: IdentityProvider) -> None:
    with authsvc(write_config(tmp_path)) as (_, address):
        channel = grpc.insecure_channel(address)
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are without methods
        for name in ("", "authsvc.v1.AuthService", "authsvc.v1.SessionAdminService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert {"authsvc.v1.AuthService", "authsvc.v1.SessionAdminService"} <= services
        created = stub(address).CreateSession(
            pb.CreateSessionRequest(resource=RESOURCE, token=real_idp.token()), timeout=TIMEOUT
        )
        assert created.session.state == pb.SESSION_STATE_AUTHENTICATED
        assert len(created.session.id) >= 22  # 128 bits in base64url
        assert created.principal.subject == "alice"


def test_an_error_has_a_status_a_reason_and_nothing_else(
    tmp_path: Path, real_idp: IdentityProvider
) -> None:
    forged = real_idp.forged()
    with authsvc(write_config(tmp_path)) as (process, address):
        error = refusal(lambda: resolve(stub(address), "s", forged, create=True))
        assert error.code is grpc.StatusCode.UNAUTHENTICATED
        assert error.message == "The token's signature does not verify."
        assert (error.reason, error.domain) == ("TOKEN_SIGNATURE_INVALID", "authsvc")
        assert process.wait_for("a token was rejected", TIMEOUT)["reason"] == error.reason
    assert forged not in process.output


@pytest.mark.parametrize(
    ("resource", "code", "reason"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "RESOURCE_INVALID"),
        ("mcp.example/mcp", grpc.StatusCode.INVALID_ARGUMENT, "RESOURCE_INVALID"),
        (RESOURCE + "#x", grpc.StatusCode.INVALID_ARGUMENT, "RESOURCE_INVALID"),
        ("https://else.example/mcp", grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    ],
)
def test_a_caller_resolves_for_its_own_resources_only(
    service: pb_grpc.AuthServiceStub, resource: str, code: grpc.StatusCode, reason: str
) -> None:
    for call in (
        lambda: service.ResolveSession(
            pb.ResolveSessionRequest(resource=resource), timeout=TIMEOUT
        ),
        lambda: service.CreateSession(pb.CreateSessionRequest(resource=resource), timeout=TIMEOUT),
    ):
        error = refusal(call)
        assert (error.code, error.reason) == (code, reason)


def test_the_log_lines_that_operators_look_for(tmp_path: Path, real_idp: IdentityProvider) -> None:
    with authsvc(write_config(tmp_path)) as (process, address):
        service = stub(address)
        session_id = "0123456789abcdefghijklmnopqrstuv"
        resolve(service, session_id, create=True)
        token = real_idp.token()
        resolve(service, session_id, token)
        resolve(service, session_id, token)
        prefix = session_id[:8] + "…"
        line = process.wait_for(
            f"Session {prefix}: New JWT token detected, re-authenticating", TIMEOUT_SECONDS
        )
        assert line["level"] == "info"
        assert (
            process.wait_for(f"Session {prefix} updated with new JWT", TIMEOUT_SECONDS)["level"]
            == "info"
        )
        line = process.wait_for(f"Using cached JWT auth for session {prefix}", TIMEOUT_SECONDS)
        assert line["level"] == "debug"
        assert "UNAUTHENTICATED" not in process.output
        resolve(service, session_id)
        process.wait_for("without a token is answered as UNAUTHENTICATED", TIMEOUT_SECONDS)
    assert session_id not in process.output
    assert token not in process.output
    assert token.rpartition(".")[2] not in process.output


def test_acknowledged_writes_survive_a_kill(tmp_path: Path, real_idp: IdentityProvider) -> None:
    config = write_config(tmp_path)
    token = real_idp.token()
    with authsvc(config) as (process, address):
        service = stub(address)
        for number in range(50):
            resolve(service, f"s{number}", token, create=True)
        service.RevokeSession(pb.RevokeSessionRequest(session_id="s0"), timeout=TIMEOUT)
        process.kill(signal.SIGKILL)
    with authsvc(config) as (_, address):
        service = stub(address)
        for number in range(1, 50):
            answer = resolve(service, f"s{number}", token)
            assert answer.outcome == pb.OUTCOME_REUSED
            assert answer.session.revision == 1
        with pytest.raises(grpc.RpcError, match="revoked"):
            resolve(service, "s0", token)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean(tmp_path: Path, signal_number: int, real_idp: IdentityProvider) -> None:
    with authsvc(write_config(tmp_path)) as (process, address):
        resolve(stub(address), "s", real_idp.token(), create=True)
        process.kill(signal_number)
        assert process.wait(TIMEOUT) == 0
    assert "Traceback" not in process.output


def test_a_stop_finishes_calls_in_flight(tmp_path: Path, real_idp: IdentityProvider) -> None:
    with authsvc(write_config(tmp_path)) as (process, address):
        service = stub(address)
        resolve(service, "before", create=True)
        # Somebody else holds the file, so that the write has to wait.
        other = sqlite3.connect(tmp_path / "authsvc.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        request = pb.ResolveSessionRequest(session_id="s", resource=RESOURCE, create=True)
        in_flight = service.ResolveSession.future(request, timeout=TIMEOUT)
        # Answered after the one before it had been read: both came over one connection.
        resolve(service, "before")
        process.kill(signal.SIGTERM)
        process.wait_for("stopping", TIMEOUT)
        assert not in_flight.done()
        other.execute("COMMIT")
        other.close()
        assert in_flight.result(TIMEOUT).outcome == pb.OUTCOME_CREATED
        assert process.wait(TIMEOUT) == 0


def test_a_taken_port_is_named(tmp_path: Path, real_idp: IdentityProvider) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--config", str(write_config(tmp_path, listen=listen)))
    assert result.returncode == 2
    assert f"listen: {listen} cannot be listened on" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_server_on_the_same_port_is_an_error(
    tmp_path: Path, real_idp: IdentityProvider
) -> None:
    with authsvc(write_config(tmp_path)) as (_, address):
        result = run("serve", "--config", str(write_config(tmp_path, listen=address)))
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [(None, "No such file"), ("short", "32 bytes")],
    ids=["missing", "short"],
)
def test_an_unusable_secret_stops_the_start(
    tmp_path: Path, secret: str | None, complaint: str
) -> None:
    if secret is not None:
        (tmp_path / "secret").write_text(secret)
    result = run("serve", "--config", str(write_config(tmp_path)))
    assert result.returncode == 2
    assert "secret" in result.stderr
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert secret is None or f"{secret}\n" not in result.stderr


def test_tokens_from_the_command_line(tmp_path: Path, real_idp: IdentityProvider) -> None:
    config = write_config(tmp_path)
    with authsvc(config) as (_, address):
        service = stub(address)
        answer = resolve(service, "a", minted(config), create=True)
        assert answer.principal.subject == "alice"
        assert list(answer.principal.buckets) == ["alpha", "beta"]
        assert list(answer.principal.scopes) == ["buckets.read"]
        flags = (
            "--role",
            "r1",
            "--role",
            "r2",
            "--bucket",
            "b",
            "--permission",
            "p",
            "--scope",
            "x",
        )
        answer = resolve(service, "b", minted(config, *flags), create=True)
        assert list(answer.principal.roles) == ["r1", "r2"]
        assert list(answer.principal.buckets) == ["b"]
        assert list(answer.principal.permissions) == ["p"]
        assert list(answer.principal.scopes) == ["x"]
        expired = minted(config, "--ttl", "-60")
        elsewhere = minted(config, "--aud", "https://else.example/mcp")
        for token, complaint in ((expired, "expired"), (elsewhere, "another resource")):
            with pytest.raises(grpc.RpcError, match=complaint):
                resolve(service, "c", token, create=True)


def test_tokens_need_the_development_table(tmp_path: Path, real_idp: IdentityProvider) -> None:
    config = write_config(tmp_path)
    config.write_text(config.read_text().partition("[development]")[0])
    result = run("token", "--config", str(config), "--sub", "alice")
    assert result.returncode == 2
    assert "development: is required" in result.stderr


def test_every_command_has_help() -> None:
    for command in ((), ("serve",), ("token",)):
        assert "Usage" in run(*command, "--help").stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "authsvc", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )


def minted(config: Path, *flags: str) -> str:
    result = run("token", "--config", str(config), "--sub", "alice", *flags)
    assert result.returncode == 0, result.stderr
    assert json.dumps(result.stdout.strip()) == f'"{result.stdout.strip()}"'
    return result.stdout.strip()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pb_grpc.AuthServiceStub]:
    folder = tmp_path_factory.mktemp("authsvc")
    IdentityProvider(time.time).write_secret(folder)
    with authsvc(write_config(folder)) as (_, address):
        yield stub(address)
