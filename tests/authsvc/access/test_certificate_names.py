"""The names that a client certificate proves: none may be taken for another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from authsvc.access.callers import Caller, Callers
from authsvc.access.certificate_names import certificate_names
from authsvc.client import ClientTls
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.development_certificates import write_development_certificates
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.certificates import Authority, alternative_names
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

OPERATOR, SERVER_NAME = "spiffe://x/ops", "b.example"
NUL = b"\0"
BOUND_SECONDS = TIMEOUT_SECONDS

Names = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    write_development_certificates(tmp_path / "tls", client_name="spiffe://x/nobody")
    (tmp_path / "tls" / "clients.pem").write_bytes(authority.pem())
    return tmp_path / "tls"


@pytest.fixture
async def address(
    tmp_path: Path, folder: Path, idp: IdentityProvider, clock: Clock
) -> AsyncIterator[str]:
    settings = settings_for(
        tmp_path,
        idp,
        listen="127.0.0.1:0",
        resources=(),
        tls={
            "certificate_file": folder / "server.pem",
            "key_file": folder / "server.key",
            "client_ca_file": folder / "clients.pem",
        },
        callers=[
            {"name": "operator", "admin": True, "certificate_names": [OPERATOR]},
            {"name": "b", "resources": [RESOURCE], "certificate_names": [SERVER_NAME]},
        ],
    )
    async with running(settings, clock=clock) as bound:
        yield bound


@contextlib.asynccontextmanager
async def connected(
    address: str, folder: Path, authority: Authority, names: Names
) -> AsyncIterator[aio.Channel]:
    authority.write(folder, "client", names)
    how = ClientTls(folder / "ca.pem", folder / "client.pem", folder / "client.key")
    async with aio.secure_channel(address, how.channel_credentials()) as channel:
        yield channel


async def codes(channel: aio.Channel) -> dict[str, grpc.StatusCode]:
    """The status of a call of each kind."""
    service, admin = pb_grpc.AuthServiceStub(channel), pb_grpc.SessionAdminServiceStub(channel)
    health: Any = HealthStub(channel)  # its stubs are without methods
    reflection: Any = ServerReflectionStub
    request = pb.ResolveSessionRequest(session_id="s", resource=RESOURCE, create=True)
    batch = pb.ResolveSessionStreamRequest(
        entries=[pb.ResolveSessionStreamRequest.Entry(request_id=1, request=request)]
    )
    listing = ServerReflectionRequest(list_services="")
    bound = BOUND_SECONDS
    return {
        "unary": await code_of(service.ResolveSession(request, timeout=bound)),
        "stream": await uncrossed(lambda: streamed(service, batch)),
        "admin": await code_of(admin.GetSession(pb.GetSessionRequest(), timeout=bound)),
        "watch": await code_of(health.Watch(HealthCheckRequest(), timeout=bound).read()),
        "reflection": await uncrossed(
            lambda: code_of(
                reflection(channel).ServerReflectionInfo(iter([listing]), timeout=bound).read()
            )
        ),
    }


async def uncrossed(ask: Callable[[], Awaitable[grpc.StatusCode]]) -> grpc.StatusCode:
    """The status. grpc.aio's client reports INTERNAL instead where a stream is rejected while its
    first message is written: then the call is repeated."""
    for _ in range(10):
        if (code := await ask()) is not grpc.StatusCode.INTERNAL:
            break
    return code


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def streamed(
    service: pb_grpc.AuthServiceAsyncStub, batch: pb.ResolveSessionStreamRequest
) -> grpc.StatusCode:
    call = service.ResolveSessionStream(iter([batch]), timeout=BOUND_SECONDS)
    try:
        answer: Any = await call.read()
    except aio.AioRpcError as error:
        return error.code()
    if answer is aio.EOF:
        return await call.code()
    status = answer.entries[0].error.code
    return next(code for code in grpc.StatusCode if code.value[0] == status)


DENIED = dict.fromkeys(
    ("unary", "stream", "admin", "watch", "reflection"), grpc.StatusCode.PERMISSION_DENIED
)


@pytest.mark.parametrize(
    "names",
    [
        [("uri", b"spiffe://x/ops" + NUL + b".tenant")],
        [("uri", b"spiffe://x/ops" + NUL)],
        [("dns", b"b.example" + NUL + b".evil.example")],
        [("dns", b"b.example"), ("dns", b"x" + NUL)],
        [("mail", b"a@b.example" + NUL), ("uri", b"spiffe://x/ops")],
        [("uri", b"spiffe://x/ops\n")],
        [("uri", b"spiffe://x/ops"), ("dns", b"b.example\xc3\xa4")],
        [("dns", b""), ("uri", b"spiffe://x/ops")],
    ],
)
async def test_a_name_with_a_control_character_identifies_nobody(
    address: str, folder: Path, authority: Authority, names: Names
) -> None:
    async with connected(address, folder, authority, names) as channel:
        assert await codes(channel) == DENIED


async def test_a_valid_name_identifies_its_caller(
    address: str, folder: Path, authority: Authority
) -> None:
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    async with connected(address, folder, authority, [("uri", OPERATOR.encode())]) as channel:
        seen = await codes(channel)
    assert seen["admin"] is grpc.StatusCode.NOT_FOUND
    assert seen["unary"] is seen["stream"] is denied
    async with connected(address, folder, authority, [("dns", b"B.Example")]) as channel:
        seen = await codes(channel)
    assert seen["unary"] is seen["stream"] is seen["watch"] is seen["reflection"] is ok
    assert seen["admin"] is denied


def context(authority: Authority, names: Names, **others: list[bytes]) -> dict[str, list[bytes]]:
    return {"x509_pem_cert": [authority.signed(names)[0]], **others}


@pytest.mark.parametrize(
    ("names", "proven"),
    [
        (
            [("uri", b"spiffe://x/a"), ("dns", b"a.example")],
            ("spiffe://x/a", "a.example"),
        ),
        ([("dns", b"spiffe://x/a")], ()),
        ([("uri", b"a.example")], ()),
        ([("mail", b"a.example"), ("ip", b"\x7f\0\0\1")], ()),
        ([("dns", b"A.EXAMPLE")], ("a.example",)),
        ([("dns", b"a.example.")], ("a.example.",)),
        ([("dns", b"*.example")], ("*.example",)),
        ([("uri", b"SPIFFE://x/a")], ("SPIFFE://x/a",)),
    ],
)
def test_each_kind_of_name_is_separate(
    authority: Authority, names: Names, proven: tuple[str, ...]
) -> None:
    assert certificate_names(context(authority, names)) == proven


def test_only_the_certificate_itself_is_read(authority: Authority) -> None:
    """What gRPC reads out of the certificate may end at a NUL."""
    elsewhere: dict[str, list[bytes]] = {
        "peer_uri": [b"spiffe://x/ops"],
        "peer_dns": [b"b.example"],
        "x509_common_name": [b"b.example"],
        "x509_subject_alternative_name": [b"b.example"],
    }
    assert certificate_names(elsewhere) == ()
    assert certificate_names(context(authority, [("dns", b"c.example")], **elsewhere)) == (
        "c.example",
    )
    pem, _ = authority.with_extensions([], common_name="b.example")
    assert certificate_names({"x509_pem_cert": [pem]}) == ()


@pytest.mark.parametrize(
    "name",
    [
        *(b"b.example" + bytes([it]) for it in (*range(0x21), 0x7F)),
        b"b.example\x85",
        b"b.ex\xc3\xa4mple",
        b"",
        b"a" * 2_049,
    ],
)
@pytest.mark.parametrize("kind", ["dns", "uri", "mail"])
def test_an_invalid_name_invalidates_the_certificate(
    authority: Authority, kind: str, name: bytes
) -> None:
    refused(context(authority, [("uri", b"spiffe://x/ops"), (kind, name)]))


def test_an_unreadable_certificate_identifies_nobody(authority: Authority) -> None:
    names = alternative_names([("uri", b"spiffe://x/ops")])
    twice, _ = authority.with_extensions([names, names])
    refused({"x509_pem_cert": [twice]})
    refused({"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----\n"]})
    refused(context(authority, [("ip", b"123")]))
    refused(context(authority, [("uri", b"spiffe://x/" + b"a" * 1_000)] * 40))
    one = authority.signed([("uri", b"spiffe://x/ops")])[0]
    refused({"x509_pem_cert": [one, one]})


def refused(auth_context: dict[str, list[bytes]]) -> None:
    with pytest.raises(AuthError) as caught:
        certificate_names(auth_context)
    assert caught.value.reason is Reason.CALLER_NOT_ALLOWED


def test_a_certificate_is_parsed_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = x509.load_pem_x509_certificate

    def counted(pem: bytes) -> object:
        parsed.append(pem)
        return parse(pem)

    monkeypatch.setattr(x509, "load_pem_x509_certificate", counted)
    good, bad = (context(authority, [("dns", name)]) for name in (b"a.example", b"a\0"))
    for _ in range(3):
        assert certificate_names(good) == ("a.example",)
        refused(bad)
    assert len(parsed) == 2


def test_names_of_hosts_are_equal_in_any_case() -> None:
    one = Caller("one", frozenset({RESOURCE}), certificate_names=frozenset({"B.Example"}))
    assert Callers([one]).identify(["b.example"], "") is one
    other = Caller("other", frozenset({RESOURCE}), certificate_names=frozenset({"b.example"}))
    with pytest.raises(ValueError, match="the same certificate name"):
        Callers([one, other])
    both = Caller("1", frozenset({RESOURCE}), certificate_names=frozenset({"B.x", "b.x"}))
    assert Callers([both]).identify(["b.x"], "") is both
    # A wildcard matches no host here, nor does a name with a dot at its end.
    for name in ("*.example", "b.example."):
        with pytest.raises(AuthError):
            Callers([one]).identify([name], "")
