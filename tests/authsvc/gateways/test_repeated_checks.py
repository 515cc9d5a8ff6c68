"""A client that repeats its headers: served again while nothing has changed, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest

from authsvc.access.callers import Caller
from authsvc.assertions.signer import Assertions
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Secret
from authsvc.gateways.audited_checks import AuditedCheck
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.gateways.repeated_checks import RepeatedChecks
from authsvc.gateways.upstream_headers import CREDENTIALS
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest
from authsvc.resolver.execution import Execution
from tests.support.checks import (
    MODERN,
    Answer,
    Behind,
    Gateway,
    request,
    rpc,
    serving_gateways,
    tool_call,
    with_gateways,
)
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]


class Served:
    """Counts the responses that were served again, at every one that is asked for."""

    asked: tuple[RepeatedChecks, EncodedCheck, Caller]

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.again: list[bool] = []
        response = RepeatedChecks.response

        def counted(
            repeated: RepeatedChecks,
            check: EncodedCheck,
            caller: Caller,
            audited: AuditedCheck | None = None,
        ) -> bytes | None:
            self.asked = repeated, check, caller
            found = response(repeated, check, caller, audited)
            self.again.append(found is not None)
            return found

        monkeypatch.setattr(RepeatedChecks, "response", counted)

    def last(self) -> bool:
        """Whether the last response was served again."""
        return self.again[-1]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


@pytest.fixture
async def start(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Start]:
    """Starts an authsvc with the given route of RESOURCE, and gives its gateway."""
    async with AsyncExitStack() as running:

        async def started(route: Mapping[str, object] | None = None, **changes: object) -> Gateway:
            tables: dict[str, Any] = {
                **with_gateways({"resource": RESOURCE, **(route or {})}),
                **changes,
            }
            settings = settings_for(tmp_path, idp, **tables)
            behind: Behind = await running.enter_async_context(serving_gateways(settings, clock))
            return behind.gateway

        yield started


async def repeated(gateway: Gateway, body: object = None, **arguments: object) -> Answer:
    """The answer to the third of three equal requests: the second writes nothing any more."""
    for _ in range(2):
        assert (await gateway.post(body or tool_call(), **arguments)).allowed
    return await gateway.post(body or tool_call(), **arguments)


def subject(answer: Answer) -> str:
    assert answer.allowed
    return str(jwt.decode(answer.assertion, options={"verify_signature": False})["sub"])


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("as_map", [False, True])
@pytest.mark.parametrize("arguments", [{"session": "s"}, {}, {"version": MODERN}])
async def test_what_is_repeated_is_served_again(
    start: Start,
    idp: IdentityProvider,
    served: Served,
    arguments: Mapping[str, str],
    as_map: bool,
    as_text: bool,
) -> None:
    gateway = await start()
    form = {**arguments, "token": idp.token(), "as_map": as_map, "as_text": as_text}
    answer = await repeated(gateway, headers=[("x-request-id", "1"), ("mcp_name", "z")], **form)
    assert served.last()
    assert subject(answer) == "alice"
    assert "mcp_name" in answer.removed
    assert ("authorization" in answer.removed, CREDENTIALS in answer.removed) == (True, True)
    assert answer.metadata["tool"] == "read"
    # Another message, of another length, in a request with another id.
    longer = tool_call("another")
    again = await gateway.post(longer, headers=[("mcp_name", "z"), ("x-request-id", "2")], **form)
    assert served.last()
    assert again.headers == answer.headers
    assert again.removed == answer.removed
    assert again.metadata == answer.metadata | {"tool": "another"}


@pytest.mark.parametrize(
    "changed",
    [
        {"session": "s2"},
        {"version": ""},
        {"headers": [("mcp_name", "z")]},
        {"path": "/other"},
        {"host": "other.example"},
        {"as_map": True},
    ],
)
async def test_what_differs_in_what_is_read_is_decided_in_full(
    start: Start, idp: IdentityProvider, served: Served, changed: Mapping[str, Any]
) -> None:
    gateway = await start()
    same: dict[str, Any] = {"token": idp.token(), "session": "s"}
    await repeated(gateway, **same)
    await gateway.post(tool_call(), **{**same, **changed})
    assert not served.last()


async def test_each_client_gets_its_own(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start()
    for name in ("alice", "bob"):
        answer = await repeated(gateway, token=idp.token(sub=name), session=name)
        assert (subject(answer), served.last()) == (name, True)
    answer = await gateway.post(tool_call(), token=idp.token(sub="bob"), session="alice")
    assert answer.refusal == (404, "SESSION_NOT_FOUND")


async def test_a_length_that_is_wrong_is_no_repetition(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    route = {"scopes": ["objects.read"]}
    gateway = await start(route)
    form: dict[str, Any] = {"token": idp.token(scope="objects.read"), "session": "s"}
    await repeated(gateway, **form)
    for change in ("content-length", "size", "partial", "none"):
        message = request("POST", tool_call(), **form)
        http = message.attributes.request.http
        if change == "content-length":
            _header(message, "content-length").raw_value = b"1"
        elif change == "size":
            http.size += 1
        elif change == "partial":
            _header(message, "x-envoy-auth-partial-body").raw_value = b"true"
        else:
            http.raw_body = b""
        await gateway.check(message)
        assert not served.last(), change


def _header(message: ExtAuthzRequest, name: str) -> ExtAuthzRequest.HeaderValue:
    headers = message.attributes.request.http.header_map.headers
    return next(header for header in headers if header.key == name)


async def test_a_text_that_may_have_been_changed_is_no_repetition(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(), "session": "s", "as_text": True}
    await repeated(gateway, **form)
    await gateway.post(tool_call("a!"), **form)
    assert not served.last()


async def test_each_message_is_authorised(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start({"tools": {"delete": ["objects.write"]}})
    form: dict[str, Any] = {"token": idp.token(scope="objects.read"), "session": "s"}
    await repeated(gateway, **form)
    assert (await gateway.post(tool_call("delete"), **form)).status == 403
    assert (await gateway.post(b"{", **form)).status == 400
    twice = b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}'
    assert (await gateway.post(twice, **form)).status == 400
    assert (await gateway.post({**tool_call(), "Method": "x"}, **form)).status == 400
    assert not any(served.again[-4:])
    assert (await gateway.post(rpc("initialize"), **form)).allowed
    assert not served.last()
    assert (await gateway.post(rpc("ping"), **form)).metadata["method"] == "ping"
    assert served.last()


@pytest.mark.parametrize("argument", ["x" * 70_000, [0] * 2_000])
async def test_long_bodies_are_decided_in_full(
    start: Start, idp: IdentityProvider, served: Served, argument: object
) -> None:
    gateway = await start()
    body = rpc("tools/call", {"name": "read", "arguments": {"x": argument}})
    assert (await repeated(gateway, body, token=idp.token(), session="s")).allowed
    assert not any(served.again)


async def test_routing_headers_of_a_repetition_match_its_message(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start()
    headers = [("mcp-method", "tools/call"), ("mcp-name", "read")]
    form: dict[str, Any] = {"token": idp.token(), "version": MODERN, "headers": headers}
    await repeated(gateway, **form)
    assert served.last()
    assert (await gateway.post(tool_call("delete"), **form)).status == 400


async def test_it_ends_with_the_session(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(), "session": "s"}
    await repeated(gateway, **form)
    assert (await gateway.delete(**form)).allowed
    assert (await gateway.post(tool_call(), **form)).status == 404
    assert not served.last()


async def test_it_ends_with_the_token(
    start: Start, idp: IdentityProvider, served: Served, clock: Clock
) -> None:
    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(exp=clock() + 20.0), "session": "s"}
    await repeated(gateway, **form)
    assert served.last()
    clock.advance(21.0)
    assert (await gateway.post(tool_call(), **form)).status == 401
    assert not served.last()


async def test_an_assertion_is_served_for_half_of_its_life(
    start: Start, idp: IdentityProvider, served: Served, clock: Clock
) -> None:
    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(), "session": "s"}
    first = await repeated(gateway, **form)
    clock.advance(31.0)
    second = await gateway.post(tool_call(), **form)
    assert second.assertion != first.assertion
    assert not served.last()
    third = await gateway.post(tool_call(), **form)
    assert (third.assertion, served.last()) == (second.assertion, True)


async def test_without_keys_nothing_is_served(
    start: Start, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object, **__: object) -> str:
        raise AuthError(Reason.KEYS_UNAVAILABLE, "no key signs")

    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(), "session": "s"}
    await repeated(gateway, **form)
    monkeypatch.setattr(Assertions, "assertion", without)
    assert (await gateway.post(tool_call(), **form)).refusal == (503, "KEYS_UNAVAILABLE")


async def test_another_resolution_is_told_anew(
    start: Start, idp: IdentityProvider, served: Served, clock: Clock
) -> None:
    gateway = await start()
    form: dict[str, Any] = {"token": idp.token(), "session": "s"}
    first = await repeated(gateway, **form)
    clock.advance(1.0)
    other = idp.token(scope="objects.read")
    assert (await gateway.post(tool_call(), token=other, session="s")).allowed
    for _ in range(2):
        assert (await gateway.get(**form)).allowed
    second = await gateway.post(tool_call(), **form)
    assert not served.last()
    assert second.assertion != first.assertion


@pytest.mark.parametrize("name", ["", "api"])
async def test_a_principal_without_credentials_is_served_again(
    start: Start, idp: IdentityProvider, served: Served, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each route has the response to its own question in the cache."""

    class IssuesNone:
        async def issue(self, *_: object) -> None:
            """Nothing."""

    monkeypatch.setattr(Execution, "_issuing", lambda *_: IssuesNone())
    table = {
        "role": "reader",
        "access_key_id": "AKIAREADER",
        "secret_access_key_file": "unread",
        "name": "api",
        "resources": [RESOURCE],
    }
    monkeypatch.setattr("authsvc.server.brokers.secret_of", lambda *_: Secret("unread"))
    gateway = await start(
        {"credentials": True, "credential_name": name}, credentials={"static": [table]}
    )
    await repeated(gateway, token=idp.token())
    assert served.last()


async def test_credentials_are_not_kept_here(
    start: Start, idp: IdentityProvider, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Issues:
        async def issue(self, *_: object) -> BearerCredentials:
            return BearerCredentials(Secret("secret"), "Bearer", 2e9)

    monkeypatch.setattr(Execution, "_issuing", lambda *_: Issues())
    gateway = await start({"credentials": True})
    token = idp.token()
    for _ in range(4):
        answer = await gateway.post(tool_call(), token=token, session="s")
        assert CREDENTIALS in answer.headers
    assert not any(served.again)


async def test_a_caller_without_a_token_is_decided_in_full(start: Start, served: Served) -> None:
    gateway = await start()
    await repeated(gateway, rpc("ping"))
    assert not any(served.again)


async def test_a_gateway_is_served_for_its_resources_alone(
    start: Start, idp: IdentityProvider, served: Served
) -> None:
    gateway = await start()
    await repeated(gateway, token=idp.token())
    known, check, caller = served.asked
    assert known.response(check, caller) is not None
    assert known.response(check, Caller(caller.name, frozenset())) is None
