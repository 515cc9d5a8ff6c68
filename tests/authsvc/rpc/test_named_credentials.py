"""Credentials by name over gRPC: by stream and by call, on every store, and by both clients."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from authsvc.client import BlockingAuthClient, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Resolution
from authsvc.net.channels import open_channel
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import errors as error_wire
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.named_broker import NamedBroker
from tests.support.service import STORE_KINDS, Service, serving, settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ONE = (CredentialRequest("one"),)
TWO = (CredentialRequest("two"),)
BOTH = ONE + TWO


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> NamedBroker:
    return NamedBroker.of_services(monkeypatch)


@pytest.fixture(params=[True, False], ids=["stream", "unary"])
def streams(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=STORE_KINDS)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def service(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    broker: NamedBroker,
    streams: bool,
    store: str,
) -> AsyncIterator[Service]:
    settings = settings_for(tmp_path, idp, store)
    async with serving(settings, clock, streams=streams) as running_service:
        yield running_service


in_memory = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""For what has nothing to do with the store."""


async def ask(
    service: Service,
    token: str,
    credentials: tuple[CredentialRequest, ...] | None,
    *,
    session: str = "s",
) -> Resolution:
    return await service.client.resolve(
        session, token, resource=RESOURCE, create=True, credentials=credentials
    )


def issued(resolution: Resolution) -> dict[str, str]:
    found = {}
    for name in resolution.named_credentials:
        credentials = resolution.credentials_of(name)
        assert isinstance(credentials, BearerCredentials)
        found[name] = credentials.access_token.reveal()
    return found


async def test_each_request_gets_what_it_names(
    service: Service, idp: IdentityProvider, broker: NamedBroker
) -> None:
    """Asked again and again, so that each of them is cached beside the others."""
    token = idp.token("alice")
    await ask(service, token, ())
    for _ in range(3):
        assert issued(await ask(service, token, BOTH)) == {"one": "one/alice", "two": "two/alice"}
        assert list(issued(await ask(service, token, BOTH[::-1]))) == ["two", "one"]
        assert issued(await ask(service, token, ONE)) == {"one": "one/alice"}
        confined = (CredentialRequest("one", ("alpha",)),)
        assert issued(await ask(service, token, confined)) == {"one": "one/alice/alpha"}
        nothing = await ask(service, token, ())
        assert (nothing.credentials, nothing.named_credentials) == (None, {})
        default = await ask(service, token, None)
        assert isinstance(default.credentials, BearerCredentials)
        assert default.credentials.access_token.reveal() == "/alice"
        assert default.named_credentials == {}
        assert (default.principal, default.session) == (nothing.principal, nothing.session)
    assert broker.taken() == {"": 1, "one": 4, "two": 2}


@pytest.mark.parametrize("streams", [False], indirect=True)
async def test_a_created_session_too(
    service: Service, idp: IdentityProvider, broker: NamedBroker
) -> None:
    token = idp.token("alice")
    answer = await service.client.create(token, resource=RESOURCE, credentials=BOTH)
    assert issued(answer) == {"one": "one/alice", "two": "two/alice"}
    answer = await service.client.create(token, resource=RESOURCE, credentials=())
    assert (answer.credentials, answer.named_credentials) == (None, {})
    assert broker.taken() == {"one": 1, "two": 1}
    answer = await service.client.create(token, resource=RESOURCE)
    assert answer.credentials is not None
    assert broker.taken() == {"": 1}


async def test_a_then_b_on_one_session(
    service: Service, idp: IdentityProvider, broker: NamedBroker
) -> None:
    """One subject with two clients' tokens: each has its own. Another subject has none."""
    await ask(service, idp.token("alice", client_id="a"), ())
    for number in range(3):
        for client in ("a", "b"):
            token = idp.token("alice", client_id=client, jti=f"{client}{number}")
            assert issued(await ask(service, token, ONE)) == {"one": "one/alice"}
    broker.taken()
    with pytest.raises(AuthError) as caught:
        await ask(service, idp.token("bob"), BOTH)
    assert caught.value.reason is Reason.SESSION_SUBJECT_MISMATCH
    await service.client.revoke("s")
    with pytest.raises(AuthError) as caught:
        await ask(service, idp.token("alice", client_id="a", jti="a0"), ONE)
    assert caught.value.reason is Reason.SESSION_REVOKED
    assert broker.taken() == {}


@in_memory
async def test_interleaved_subjects_never_get_each_others(
    service: Service, idp: IdentityProvider
) -> None:
    subjects = [f"user{number}" for number in range(20)]
    tokens = {subject: idp.token(subject) for subject in subjects}
    choices = random.Random(19)

    async def one_call() -> None:
        subject, selection = choices.choice(subjects), choices.choice([ONE, TWO, BOTH, ()])
        session = choices.choice(["", f"of-{subject}"])
        answer = await ask(service, tokens[subject], selection, session=session)
        assert issued(answer) == {it.name: f"{it.name}/{subject}" for it in selection}

    await asyncio.gather(*(one_call() for _ in range(200)))


@in_memory
async def test_one_that_fails_does_not_touch_the_others(
    service: Service, idp: IdentityProvider
) -> None:
    names = ("one", "refused", "none", "two")
    selection = tuple(map(CredentialRequest, names))
    for _ in range(3):
        answer = await ask(service, idp.token("alice"), selection)
        assert list(answer.named_credentials) == ["one", "refused", "two"]
        assert answer.credentials_of("none") is None
        two = answer.credentials_of("two")
        assert isinstance(two, BearerCredentials)
        assert two.access_token.reveal() == "two/alice"
        with pytest.raises(AuthError) as caught:
            answer.credentials_of("refused")
        assert caught.value.reason is Reason.CREDENTIALS_REFUSED
        assert caught.value.principal == answer.principal
        assert "for the log" not in f"{caught.value}{answer!r}"


@in_memory
async def test_a_blocking_client_asks_likewise(service: Service, idp: IdentityProvider) -> None:
    token = idp.token("alice")

    def asked() -> tuple[Resolution, Resolution, Resolution]:
        with BlockingAuthClient(service.address, deadline_seconds=TIMEOUT_SECONDS) as client:
            created = client.create(token, resource=RESOURCE, credentials=TWO)
            assert created.session is not None
            named = client.resolve(created.session.id, token, resource=RESOURCE, credentials=ONE)
            return created, named, client.resolve("", token, resource=RESOURCE, credentials=())

    created, named, nothing = await asyncio.to_thread(asked)
    assert (issued(created), issued(named)) == ({"two": "two/alice"}, {"one": "one/alice"})
    assert (nothing.credentials, nothing.named_credentials) == (None, {})


INVALID = [
    pb.CredentialSelection(requests=[pb.CredentialRequest(name=f"n{it}") for it in range(17)]),
    pb.CredentialSelection(requests=[pb.CredentialRequest(), pb.CredentialRequest()]),
    pb.CredentialSelection(requests=[pb.CredentialRequest(name="a b")]),
    pb.CredentialSelection(requests=[pb.CredentialRequest(buckets=[""])]),
    pb.CredentialSelection(requests=[pb.CredentialRequest(rejected_sha256=b"x" * 31)]),
]


@in_memory
@pytest.mark.parametrize("streams", [False], indirect=True)
@pytest.mark.parametrize("selection", INVALID)
async def test_an_invalid_selection_is_rejected_by_each_call(
    service: Service, idp: IdentityProvider, broker: NamedBroker, selection: pb.CredentialSelection
) -> None:
    asked = {"token": idp.token(), "resource": RESOURCE, "credential_selection": selection}
    resolve = pb.ResolveSessionRequest(**asked)  # type: ignore[arg-type]  # as of both messages
    create = pb.CreateSessionRequest(**asked)  # type: ignore[arg-type]
    async with open_channel(service.address, None, ()) as channel:
        stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        for call in (stub.ResolveSession(resolve), stub.CreateSession(create)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(call, TIMEOUT_SECONDS)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        stream = stub.ResolveSessionStream()
        entry = pb.ResolveSessionStreamRequest.Entry(request_id=1, request=resolve)
        await stream.write(pb.ResolveSessionStreamRequest(entries=[entry]))
        answer = await asyncio.wait_for(stream.read(), TIMEOUT_SECONDS)
        assert isinstance(answer, pb.ResolveSessionStreamResponse)
        stream.cancel()
    error = error_wire.error_of(answer.entries[0].error)
    assert error is not None
    assert error.reason is Reason.ARGUMENT_INVALID
    assert broker.taken() == {}


@pytest.mark.parametrize(
    "selection", [(*ONE, *ONE), tuple(map(CredentialRequest, map(str, range(17))))]
)
@in_memory
@pytest.mark.parametrize("streams", [False], indirect=True)
async def test_a_client_sends_no_invalid_selection(
    service: Service, idp: IdentityProvider, selection: tuple[CredentialRequest, ...]
) -> None:
    with pytest.raises(ValueError, match="asked for"):
        await ask(service, idp.token(), selection)
    with pytest.raises(ValueError, match="asked for"):
        await service.client.create(idp.token(), resource=RESOURCE, credentials=selection)
    with pytest.raises(TypeError, match="CredentialRequest"):
        await ask(service, idp.token(), ("one",))  # type: ignore[arg-type]  # a caller's mistake


@in_memory
async def test_without_tables_each_name_is_an_error(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, streams: bool, store: str
) -> None:
    """Of the broker that the configuration gives: no table is not "none for this principal"."""
    settings = settings_for(tmp_path, idp, store, credentials={})
    async with serving(settings, clock, streams=streams) as service:
        answer = await ask(service, idp.token("alice"), (CredentialRequest(), *ONE))
        created = await service.client.create(
            idp.token("alice"), resource=RESOURCE, credentials=ONE
        )
    for resolution in (answer, created):
        assert [*resolution.named_credentials] == ["one"]
        with pytest.raises(AuthError) as refused:
            resolution.credentials_of("one")
        assert refused.value.reason is Reason.ARGUMENT_INVALID
