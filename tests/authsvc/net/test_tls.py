"""Callers over TLS, through real handshakes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.x509.oid import NameOID
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from authsvc.cli import main
from authsvc.client import AuthClient, ClientTls
from authsvc.client.tls import Certificates, ServiceToken
from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.certificates import make_authority
from authsvc.net.development_certificates import write_development_certificates
from authsvc.net.tls import ServerCertificates, _Served
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("files_always_checked")]

MTLS_NAME = "spiffe://dev/adapter"
TOKENS = {name: f"{name}-{token_hex(20)}" for name in ("other", "operator")}
MINE = f"mine-{token_hex(20)}"


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    write_development_certificates(folder, client_name=MTLS_NAME)
    for name, token in TOKENS.items():
        (folder / name).write_text(token)
    return folder


def settings(tmp_path: Path, tls: Path, idp: IdentityProvider, *, mutual: bool = True) -> Settings:
    certificates = {"certificate_file": tls / "server.pem", "key_file": tls / "server.key"}
    mine = {"name": "mine", "resources": [RESOURCE]}
    proof = (
        {"certificate_names": [MTLS_NAME]}
        if mutual
        else {"service_token_files": [written(tls / "mine", MINE)]}
    )
    return settings_for(
        tmp_path,
        idp,
        listen="127.0.0.1:0",
        resources=(),
        tls={**certificates, **({"client_ca_file": tls / "ca.pem"} if mutual else {})},
        callers=[
            {**mine, **proof},
            {
                "name": "other",
                "resources": [OTHER_RESOURCE],
                "service_token_files": [tls / "other"],
            },
            {
                "name": "operator",
                "admin": True,
                "service_token_sha256": [hashlib.sha256(TOKENS["operator"].encode()).hexdigest()],
            },
        ],
    )


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def copy_files(source: Path, target: Path, *names: str) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        (target / name).write_bytes((source / name).read_bytes())


def client_tls(tls: Path) -> ClientTls:
    return ClientTls(tls / "ca.pem", tls / "client.pem", tls / "client.key")


async def reason(
    address: str,
    how: ClientTls | None,
    resource: str = RESOURCE,
    *,
    deadline_seconds: float = TIMEOUT_SECONDS,
) -> Reason | None:
    """Why such a client is denied; None when it is served."""
    async with AuthClient(address, deadline_seconds=deadline_seconds, tls=how) as client:
        try:
            await client.resolve("s", "", resource=resource, create=True)
        except AuthError as error:
            return error.reason
    return None


@pytest.fixture
async def mutual(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> AsyncIterator[str]:
    async with running(settings(tmp_path, tls, idp), clock=clock) as address:
        yield address


@pytest.fixture
async def by_token(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> AsyncIterator[str]:
    async with running(settings(tmp_path, tls, idp, mutual=False), clock=clock) as address:
        yield address


async def test_a_certificate_proves_a_caller(mutual: str, tls: Path) -> None:
    assert await reason(mutual, client_tls(tls)) is None
    assert await reason(mutual, client_tls(tls), OTHER_RESOURCE) is Reason.CALLER_NOT_ALLOWED


async def test_without_a_certificate_there_is_no_connection(mutual: str, tls: Path) -> None:
    assert (
        await reason(mutual, ClientTls(tls / "ca.pem"), deadline_seconds=2)
        is Reason.SERVICE_UNAVAILABLE
    )
    assert await reason(mutual, None, deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE


async def test_a_certificate_of_another_authority_is_rejected(
    mutual: str, tls: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    write_development_certificates(foreign, client_name=MTLS_NAME)
    how = ClientTls(tls / "ca.pem", foreign / "client.pem", foreign / "client.key")
    assert await reason(mutual, how, deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE


async def test_a_server_of_another_authority_is_rejected(
    mutual: str, tls: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    write_development_certificates(foreign, client_name=MTLS_NAME)
    how = replace(client_tls(tls), ca_file=foreign / "ca.pem")
    assert await reason(mutual, how, deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE


async def test_a_valid_certificate_of_no_caller_is_denied(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    write_development_certificates(tls, client_name="spiffe://dev/somebody")
    async with running(settings(tmp_path, tls, idp), clock=clock) as address:
        assert await reason(address, client_tls(tls)) is Reason.CALLER_NOT_ALLOWED
    assert "spiffe://dev/somebody" in str(caplog.records[-1].__dict__["detail"])


async def test_a_service_token_proves_a_caller(by_token: str, tls: Path) -> None:
    how = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    assert await reason(by_token, how) is None
    assert await reason(by_token, how, OTHER_RESOURCE) is Reason.CALLER_NOT_ALLOWED
    other = ClientTls(tls / "ca.pem", service_token_file=tls / "other")
    assert await reason(by_token, other) is Reason.CALLER_NOT_ALLOWED
    assert await reason(by_token, other, OTHER_RESOURCE) is None
    nobody = ClientTls(tls / "ca.pem")
    assert await reason(by_token, nobody) is Reason.CALLER_NOT_ALLOWED


async def test_a_changed_service_token_takes_effect(by_token: str, tls: Path) -> None:
    file = written(tls / "presented", f"not-yet-{token_hex(20)}")
    how = ClientTls(tls / "ca.pem", service_token_file=file)
    async with AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=how) as client:
        with pytest.raises(AuthError):
            await client.resolve("", "", resource=RESOURCE)
        file.write_text((tls / "mine").read_text())
        os.utime(file, (1, 1))
        await client.resolve("", "", resource=RESOURCE)
        file.unlink()
        await client.resolve("", "", resource=RESOURCE)


@pytest.mark.parametrize("spelled", ["sha256:{}", "sha256:{}\n", "SHA256:{}"])
async def test_a_digest_is_not_presented(by_token: str, tls: Path, spelled: str) -> None:
    digest = hashlib.sha256((tls / "mine").read_bytes()).hexdigest()
    file = written(tls / "digest", spelled.format(digest))
    how = ClientTls(tls / "ca.pem", service_token_file=file)
    async with AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=how) as client:
        with pytest.raises(AuthError, match=r"digest holds a digest, which is for authsvc") as no:
            await client.resolve("", "", resource=RESOURCE)
        assert no.value.reason is Reason.CALLER_NOT_ALLOWED


async def test_operators_and_servers_have_separate_services(by_token: str, tls: Path) -> None:
    assert (
        await reason(by_token, ClientTls(tls / "ca.pem", service_token_file=tls / "operator"))
        is Reason.CALLER_NOT_ALLOWED
    )
    credentials = ClientTls(tls / "ca.pem").channel_credentials()
    async with aio.secure_channel(by_token, credentials) as channel:
        admin = pb_grpc.SessionAdminServiceStub(channel)
        for name, code in (
            ("operator", grpc.StatusCode.NOT_FOUND),
            ("mine", grpc.StatusCode.PERMISSION_DENIED),
            (None, grpc.StatusCode.PERMISSION_DENIED),
        ):
            token = (tls / name).read_text() if name else ""
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            with pytest.raises(aio.AioRpcError) as caught:
                await admin.GetSession(
                    pb.GetSessionRequest(), timeout=TIMEOUT_SECONDS, metadata=metadata
                )
            assert caught.value.code() is code


async def test_an_operator_ends_no_session_as_a_server_would(by_token: str, tls: Path) -> None:
    mine = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    operator = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
    async with (
        AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=mine) as server,
        AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=operator) as admin,
    ):
        await server.resolve("s", "", resource=RESOURCE, create=True)
        for session_id in ("s", "unknown"):
            with pytest.raises(AuthError) as caught:
                await admin.revoke(session_id)
            assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
        await server.resolve("s", "", resource=RESOURCE)


async def test_unauthenticated_callers_may_check_health_and_hold_nothing_open(
    by_token: str, tls: Path
) -> None:
    credentials = ClientTls(tls / "ca.pem").channel_credentials()
    mine = (("authorization", f"Bearer {(tls / 'mine').read_text()}"),)
    async with aio.secure_channel(by_token, credentials) as channel:
        health: Any = HealthStub(channel)  # its stubs are without methods
        answer = await health.Check(HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        assert answer.status == HealthCheckResponse.SERVING
        stub: Any = ServerReflectionStub  # untyped
        reflection = stub(channel)

        async def watched(metadata: tuple[tuple[str, str], ...]) -> object:
            return await health.Watch(
                HealthCheckRequest(), timeout=TIMEOUT_SECONDS, metadata=metadata
            ).read()

        async def reflected(metadata: tuple[tuple[str, str], ...]) -> object:
            listing = iter([ServerReflectionRequest(list_services="")])
            call = reflection.ServerReflectionInfo(
                listing, timeout=TIMEOUT_SECONDS, metadata=metadata
            )
            return await call.read()

        for answered in (watched, reflected):
            with pytest.raises(aio.AioRpcError) as caught:
                await answered(())
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert await answered(mine) is not aio.EOF


async def test_denied_callers_are_audited(
    by_token: str, tls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = ClientTls(tls / "ca.pem", service_token_file=tls / "other")
    operator = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
    await reason(by_token, ClientTls(tls / "ca.pem"))
    await reason(by_token, other)
    async with aio.secure_channel(by_token, operator.channel_credentials()) as channel:
        for name in ("operator", "other"):
            metadata = (("authorization", f"Bearer {TOKENS[name]}"),)
            with pytest.raises(aio.AioRpcError):
                await pb_grpc.SessionAdminServiceStub(channel).GetSession(
                    pb.GetSessionRequest(), timeout=TIMEOUT_SECONDS, metadata=metadata
                )
    events = [record.__dict__ for record in caplog.records if record.name == "authsvc.security"]
    assert [(event["event_type"], event["caller"], event["resource"]) for event in events] == [
        ("CALLER_DENIED", "", ""),
        ("CALLER_DENIED", "other", RESOURCE),
        ("ADMIN_ACTION", "operator", ""),
        ("CALLER_DENIED", "other", ""),
    ]
    assert all("; from ipv4:127.0.0.1:" in event["detail"] for event in events)
    assert "GetSession" in events[2]["detail"]


async def test_events_of_unauthenticated_callers_are_limited(
    by_token: str, tls: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.access.usage.EVENTS_BURST", 3.0)
    mine = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    for _ in range(10):
        assert await reason(by_token, ClientTls(tls / "ca.pem")) is Reason.CALLER_NOT_ALLOWED
        assert await reason(by_token, mine) is None
    types = [record.__dict__.get("event_type") for record in caplog.records]
    assert types.count("CALLER_DENIED") == 3
    assert types.count("LIMIT_REACHED") == 1


async def test_two_service_tokens_are_denied(by_token: str, tls: Path) -> None:
    mine = ("authorization", f"Bearer {(tls / 'mine').read_text()}")
    credentials = ClientTls(tls / "ca.pem").channel_credentials()
    async with aio.secure_channel(by_token, credentials) as channel:
        stub = pb_grpc.AuthServiceStub(channel)
        request = pb.ResolveSessionRequest(resource=RESOURCE)
        await stub.ResolveSession(request, timeout=TIMEOUT_SECONDS, metadata=(mine,))
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ResolveSession(request, timeout=TIMEOUT_SECONDS, metadata=(mine, mine))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_session_used_elsewhere_alone_is_not_ended(
    by_token: str, tls: Path, idp: IdentityProvider
) -> None:
    mine = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    other = ClientTls(tls / "ca.pem", service_token_file=tls / "other")
    async with (
        AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=mine) as here,
        AuthClient(by_token, deadline_seconds=TIMEOUT_SECONDS, tls=other) as there,
    ):
        await here.resolve("s", idp.token(), resource=RESOURCE, create=True)
        with pytest.raises(AuthError) as caught:
            await there.revoke("s")
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
        await here.resolve("s", idp.token(), resource=RESOURCE)
        await here.revoke("s")
        with pytest.raises(AuthError):
            await here.resolve("s", idp.token(), resource=RESOURCE)


async def test_a_server_that_joins_a_session_may_not_end_it(
    by_token: str, tls: Path, idp: IdentityProvider
) -> None:
    mine = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    other = ClientTls(tls / "ca.pem", service_token_file=tls / "other")
    async with (
        AuthClient(by_token, deadline_seconds=60, tls=mine) as here,
        AuthClient(by_token, deadline_seconds=60, tls=other) as there,
    ):
        token = idp.token()
        await here.resolve("s", token, resource=RESOURCE, create=True)
        await there.resolve("s", idp.token(aud=OTHER_RESOURCE), resource=OTHER_RESOURCE)
        with pytest.raises(AuthError) as caught:
            await there.revoke("s")
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
        again = await here.resolve("s", token, resource=RESOURCE)
        assert again.principal is not None
        await here.revoke("s")
        with pytest.raises(AuthError) as caught:
            await there.resolve("s", "", resource=OTHER_RESOURCE)
        assert caught.value.reason is Reason.SESSION_REVOKED


async def test_a_session_that_nobody_has_authenticated_is_not_ended(
    by_token: str, tls: Path, idp: IdentityProvider
) -> None:
    mine = ClientTls(tls / "ca.pem", service_token_file=tls / "mine")
    other = ClientTls(tls / "ca.pem", service_token_file=tls / "other")
    async with (
        AuthClient(by_token, deadline_seconds=60, tls=mine) as here,
        AuthClient(by_token, deadline_seconds=60, tls=other) as there,
    ):
        await here.resolve("s", "", resource=RESOURCE, create=True)
        # It resolves the session only to be allowed to end it.
        await there.resolve("s", "", resource=OTHER_RESOURCE)
        with pytest.raises(AuthError) as caught:
            await there.revoke("s")
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
        upgraded = await here.resolve("s", idp.token(), resource=RESOURCE)
        assert upgraded.principal is not None


async def test_new_certificates_take_effect_without_a_restart(
    mutual: str, tls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("ca.pem", "client.pem", "client.key"):
        (old / name).write_bytes((tls / name).read_bytes())
    assert await reason(mutual, client_tls(old)) is None
    write_development_certificates(tls, client_name=MTLS_NAME)
    assert await reason(mutual, client_tls(tls)) is None
    assert await reason(mutual, client_tls(old), deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE
    # A half-written file is not used, and no caller is denied.
    (tls / "server.pem").write_text("-----BEGIN")
    assert await reason(mutual, client_tls(tls)) is None
    assert "cannot be reloaded" in caplog.text


def odd_certificates() -> dict[str, str]:
    """PEM of certificates that some parsers read and others reject."""
    der = make_authority("odd", days=1).certificate.public_bytes(serialization.Encoding.DER)
    length_bytes = der[1] & 0x7F if der[1] >= 0x80 else 0
    version = b"\xa0\x03\x02\x01"
    # Both sequences around the version have lengths of two bytes.
    outer, inner = (int.from_bytes(der[at : at + 2]) - 5 for at in (2, 6))
    version_1 = der[:2] + outer.to_bytes(2) + der[4:6] + inner.to_bytes(2) + der[13:]
    return {
        name: ssl.DER_cert_to_PEM_cert(content)
        for name, content in {
            "trailing bytes": der + b"\0\0",
            "indefinite length": b"\x30\x80" + der[2 + length_bytes :] + b"\0\0",
            "version 4": der.replace(version + b"\x02", version + b"\x03", 1),
            "version 1 with extensions": version_1,
            "a name that is not UTF-8": der.replace(b"odd ", b"o\xffd "),
            "truncated": der[:-5],
        }.items()
    }


ODD = odd_certificates()


def of_ed448() -> tuple[bytes, bytes]:
    """PEM of a certificate and of its key, of a kind that gRPC does not serve."""
    key = ed448.Ed448PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, None).public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("kind", sorted(ODD))
async def test_a_removed_authority_ends_beside_what_openssl_accepts(
    mutual: str, tls: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("ca.pem", "client.pem", "client.key"):
        (old / name).write_bytes((tls / name).read_bytes())
    assert await reason(mutual, client_tls(old)) is None
    write_development_certificates(new, client_name=MTLS_NAME)
    (tls / "ca.pem").write_text(ODD[kind] + (new / "ca.pem").read_text())
    assert await reason(mutual, client_tls(old), deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE
    assert "skipped certificate 1" in caplog.text


async def test_a_rolled_back_authority_is_not_trusted(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> None:
    """Certificates of a release that is rolled back by a symbolic link: nothing of it stays."""
    rogue, both, release = (tmp_path / name for name in ("rogue", "both", "release"))
    write_development_certificates(rogue, client_name=MTLS_NAME)
    both.mkdir()
    (both / "ca.pem").write_bytes((tls / "ca.pem").read_bytes())
    for name in ("client.pem", "client.key"):
        (both / name).write_bytes((rogue / name).read_bytes())
    # Its key does not fit the certificate.
    release.mkdir()
    authorities = (tls / "ca.pem").read_bytes() + (rogue / "ca.pem").read_bytes()
    (release / "ca.pem").write_bytes(authorities)
    for name in ("server.pem", "server.key"):
        (release / name).write_bytes((rogue / name).read_bytes())
    (release / "server.pem").write_bytes((tls / "server.pem").read_bytes())
    current = tmp_path / "current"
    current.symlink_to(tls)
    async with running(settings(tmp_path, current, idp), clock=clock) as address:
        _point(current, release)
        assert await reason(address, client_tls(both)) is None
        _point(current, tls)
        denied = await reason(address, client_tls(both), deadline_seconds=2)
    assert denied is Reason.SERVICE_UNAVAILABLE


def _point(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize(
    "wrong",
    ["an odd authority", "an odd one first", "a half-replaced pair", "a version", "a kind of key"],
)
async def test_a_removed_authority_ends_whatever_else_is_wrong(
    mutual: str, tls: Path, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, both = tmp_path / "old", tmp_path / "new", tmp_path / "both"
    old.mkdir()
    for name in ("ca.pem", "client.pem", "client.key"):
        (old / name).write_bytes((tls / name).read_bytes())
    assert await reason(mutual, client_tls(old)) is None
    write_development_certificates(new, client_name=MTLS_NAME)
    # Knows the server by the old authority, and presents a certificate of the new one.
    both.mkdir()
    (both / "ca.pem").write_bytes((old / "ca.pem").read_bytes())
    for name in ("client.pem", "client.key"):
        (both / name).write_bytes((new / name).read_bytes())
    good = (new / "ca.pem").read_text()
    odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    if wrong == "a half-replaced pair":
        (tls / "server.key").write_bytes((new / "server.key").read_bytes())
        (tls / "ca.pem").write_text(good)
    elif wrong == "a version":
        (tls / "server.pem").write_text(ODD["version 4"])
        (tls / "ca.pem").write_text(good)
    elif wrong == "a kind of key":
        for path, content in zip((tls / "server.pem", tls / "server.key"), of_ed448(), strict=True):
            path.write_bytes(content)
        (tls / "ca.pem").write_text(good)
    else:
        (tls / "ca.pem").write_text(good + odd if wrong == "an odd authority" else odd + good)
    assert await reason(mutual, client_tls(old), deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE
    assert await reason(mutual, client_tls(both)) is None
    assert "cannot be reloaded" in caplog.text or "skipped certificate" in caplog.text
    # No authority at all is an outage: the last ones stay.
    (tls / "ca.pem").write_text("rubbish")
    assert await reason(mutual, client_tls(both)) is None
    assert await reason(mutual, client_tls(old), deadline_seconds=2) is Reason.SERVICE_UNAVAILABLE
    assert caplog.text.count("holds no certificate") == 1


def test_faults_of_certificates_are_logged_once_however_often_they_are_checked(
    tls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unauthenticated peers can cause any number of handshakes."""
    sound, key = (tls / "ca.pem").read_text(), (tls / "server.key").read_text()
    odd = f"{sound}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tls / "ca.pem").write_text(odd)
    files = ServerCertificates(tls / "server.pem", tls / "server.key", tls / "ca.pem")

    def logged() -> tuple[int, int]:
        text = caplog.text
        return text.count("skipped certificate 2: it cannot be read: "), text.count("not PEM")

    served = _Served(files)
    assert logged() == (1, 0)
    for content, told in (("half a ke", (1, 1)), (key, (1, 1)), ("half a k", (1, 2))):
        (tls / "server.key").write_text(content)
        for _ in range(5):
            served.changed()
        assert logged() == told
    (tls / "ca.pem").write_text(sound)
    served.changed()
    (tls / "ca.pem").write_text(odd)
    for _ in range(5):
        served.changed()
    assert logged() == (2, 2)


def test_a_client_logs_once_that_its_certificates_are_gone(
    tls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(client_tls(tls))
    chain = (tls / "client.pem").read_bytes()
    for times in (1, 2):
        (tls / "client.pem").unlink()
        for _ in range(5):
            assert not certificates.renew()
        assert caplog.text.count("certificates cannot be reloaded") == times
        (tls / "client.pem").write_bytes(chain)
        assert not certificates.renew()  # they are the same again


def test_a_client_reads_a_file_again_that_could_not_be_read(
    tls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file does not change once more: the first read has failed, not the write."""
    certificates, new = Certificates(client_tls(tls)), tmp_path / "new"
    write_development_certificates(new, client_name=MTLS_NAME)
    copy_files(new, tls, "ca.pem", "client.pem", "client.key")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", _no_descriptor_is_left)
        for _ in range(3):
            assert not certificates.renew()
    assert caplog.text.count("cannot be reloaded") == 2  # the authorities, and the pair
    assert certificates.renew()
    assert not certificates.renew()


def _no_descriptor_is_left(path: Path) -> bytes:
    raise OSError(errno.EMFILE, "Too many open files", str(path))


async def test_a_client_follows_its_certificates(
    mutual: str, tls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, new = tmp_path / "mine", tmp_path / "new"
    copy_files(tls, mine, "ca.pem", "client.key", "client.pem")
    write_development_certificates(new, client_name=MTLS_NAME)
    async with AuthClient(mutual, deadline_seconds=TIMEOUT_SECONDS, tls=client_tls(mine)) as client:
        await client.resolve("", "", resource=RESOURCE)
        copy_files(new, mine, "client.pem")
        # Its key is not written yet: the old connection serves, and this is logged once.
        for _ in range(3):
            await client.resolve("", "", resource=RESOURCE)
            assert caplog.text.count("cannot be reloaded") == 1
        copy_files(new, tls, "ca.pem", "server.key", "server.pem")
        copy_files(new, mine, "ca.pem", "client.key")
        # For new connections the server trusts the new authority alone.
        await client.resolve("", "", resource=RESOURCE)
        (mine / "client.pem").unlink()
        await client.resolve("", "", resource=RESOURCE)


def rewritten(path: Path, content: bytes, at: int) -> None:
    """Written in place at a moment, in nanoseconds: the clock of files is coarse."""
    path.write_bytes(content)
    os.utime(path, ns=(at, at))


def test_a_client_distinguishes_two_writes_of_one_moment(tls: Path, tmp_path: Path) -> None:
    certificates, moment = Certificates(client_tls(tls)), 1_000_000_000
    new = tmp_path / "new"
    write_development_certificates(new, client_name=MTLS_NAME)
    rewritten(tls / "ca.pem", b"", moment)
    assert not certificates.renew()
    rewritten(tls / "ca.pem", (new / "ca.pem").read_bytes(), moment)
    assert certificates.renew()


def test_a_service_token_that_is_being_written_leaves_the_last_one_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, moment = tmp_path / "token", 1_000_000_000
    path.write_text("")
    token = ServiceToken(path)
    with pytest.raises(AuthError, match="is empty"):
        token.metadata()
    for content, presented in ((b"old", "old"), (b"", "old"), (b"newer", "newer")):
        rewritten(path, content, moment)
        for _ in range(2):
            assert token.metadata() == (("authorization", f"Bearer {presented}"),)
    warned = [it.getMessage() for it in caplog.records]
    assert warned == [f"service_token_file: {path} is empty; the last token stays in use"]


@pytest.mark.parametrize(
    "wrong", ["a half-replaced pair", "no key", "an odd authority", "an authority in no ASCII"]
)
async def test_a_client_trusts_no_removed_authority_whatever_else_is_wrong(
    mutual: str, tls: Path, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine, new = tmp_path / "mine", tmp_path / "new"
    copy_files(tls, mine, "ca.pem", "client.key", "client.pem")
    write_development_certificates(new, client_name=MTLS_NAME)
    async with AuthClient(mutual, deadline_seconds=TIMEOUT_SECONDS, tls=client_tls(mine)) as client:
        await client.resolve("", "", resource=RESOURCE)
        copy_files(new, mine, "ca.pem")
        if wrong == "a half-replaced pair":
            copy_files(new, mine, "client.pem")
        elif wrong == "no key":
            (mine / "client.key").unlink()
        else:
            content = "AAAA" if wrong == "an odd authority" else "A\u00c4AA"
            odd = f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"
            written(mine / "ca.pem", odd + (mine / "ca.pem").read_text())
        # Both are tried again for as long as they have.
        client._calls._deadline_seconds = 2
        for _ in range(2):
            with pytest.raises(AuthError) as caught:
                await client.resolve("", "", resource=RESOURCE)
            assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
        client._calls._deadline_seconds = TIMEOUT_SECONDS
        complaints = "cannot be reloaded", "skipped certificate"
        assert sum(map(caplog.text.count, complaints)) == 1
        # No authority at all is an outage: the last ones stay.
        copy_files(tls, mine, "ca.pem", "client.key", "client.pem")
        await client.resolve("", "", resource=RESOURCE)
        written(mine / "ca.pem", "rubbish")
        await client.resolve("", "", resource=RESOURCE)
        assert "authorities cannot be reloaded: ca_file" in caplog.text


async def test_calls_in_flight_outlive_their_connection(
    mutual: str, tls: Path, idp: IdentityProvider
) -> None:
    token = idp.token()
    async with AuthClient(mutual, deadline_seconds=TIMEOUT_SECONDS, tls=client_tls(tls)) as client:
        await client.resolve("", "", resource=RESOURCE)
        calls = [client.resolve(f"s{n}", token, resource=RESOURCE, create=True) for n in range(20)]
        under_way = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        write_development_certificates(tls, client_name=MTLS_NAME)
        await client.resolve("", "", resource=RESOURCE)
        answers = await asyncio.gather(*under_way)
    assert all(answer.principal for answer in answers)


def test_invalid_client_certificates_are_found_at_the_start(tls: Path) -> None:
    client_tls(tls).channel_credentials()
    (tls / "client.key").write_bytes((tls / "server.key").read_bytes())
    with pytest.raises(OSError, match="MISMATCH"):
        client_tls(tls).channel_credentials()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("server.pem", None, r"^tls\.certificate_file: .*/server\.pem: No such file"),
        ("server.key", None, r"^tls\.key_file: .*/server\.key: No such file"),
        ("ca.pem", None, r"^tls\.client_ca_file: .*/ca\.pem: No such file"),
        ("server.key", "rubbish", "not PEM"),
        ("server.pem", "rubbish", "not PEM"),
        ("server.key", "client.key", "not the key of"),
        ("ca.pem", "rubbish", "holds no certificate"),
        ("other", "short", "32 characters"),
        ("other", "", "is empty"),
        ("other", None, "No such file"),
    ],
)
async def test_invalid_files_stop_the_start(
    tmp_path: Path,
    tls: Path,
    idp: IdentityProvider,
    clock: Clock,
    name: str,
    content: str | None,
    complaint: str,
) -> None:
    if content is None:
        (tls / name).unlink()
    elif content == "client.key":
        (tls / name).write_bytes((tls / content).read_bytes())
    else:
        (tls / name).write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        async with running(settings(tmp_path, tls, idp), clock=clock):
            pass


def test_one_command_makes_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    result = CliRunner().invoke(main, ["dev-certificates", "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "ca.pem",
        "client.key",
        "client.pem",
        "server.key",
        "server.pem",
    ]
    before = (folder / "server.key").read_bytes()
    (folder / "server.key").chmod(0o644)
    assert CliRunner().invoke(main, ["dev-certificates", "--folder", str(folder)]).exit_code == 0
    assert (folder / "server.key").read_bytes() != before
    for key in folder.glob("*.key"):
        assert key.stat().st_mode & 0o077 == 0
