"""agentgateway's ExtMcp over gRPC: it decides as Envoy's Check does, and changes what it can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from google.protobuf.json_format import MessageToDict
from grpc import aio

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolution
from authsvc.gateways.ext_mcp import SERVICE_NAME
from authsvc.internal.v1.ext_mcp_pb2 import (
    ExtMcpError,
    ExtMcpRequest,
    ExtMcpRequestResult,
    ExtMcpResponseResult,
)
from authsvc.resolver.resolver import SessionResolver
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.checks import LEGACY, MODERN, Gateway, gateway_of, status_of, with_gateways
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.tokens import ISSUER, NOBODYS_DIGEST, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ROUTE: dict[str, object] = {
    "resource": RESOURCE,
    "adopt_sessions": False,
    "scopes": ["objects.read"],
    "tools": {"delete": ["objects.write"]},
    "authorization_servers": [ISSUER],
}

NONE: object = object()
"""A method without params."""


@dataclass
class Result:
    """What a call came to.

    Attributes:
        allowed: whether the gateway passes it on.
        headers: that the upstream gets.
        removed: names of headers that it does not get.
        metadata: for the gateway's other filters.
        code: of the denial.
        error: the JSON-RPC error of the denial.
        encoded: all of it.
    """

    allowed: bool
    headers: dict[str, str]
    removed: set[str]
    metadata: dict[str, Any]
    code: ExtMcpError.Code.ValueType
    error: dict[str, Any]
    encoded: bytes

    @classmethod
    def of(cls, encoded: bytes) -> Result:
        result = ExtMcpRequestResult.FromString(encoded)
        kind = result.WhichOneof("result")
        assert kind in {"passed", "error"}
        mutation = result.header_mutation
        error = json.loads(result.error.mcp_error or b"{}")
        if kind == "error":
            assert not mutation.set
            assert not mutation.remove
            assert error["message"] == result.error.reason
        return cls(
            allowed=kind == "passed",
            headers={it.key: it.value.decode() for it in mutation.set},
            removed=set(mutation.remove),
            metadata=MessageToDict(result.metadata),
            code=result.error.code,
            error=error,
            encoded=encoded,
        )

    @property
    def subject(self) -> str:
        """Whom the upstream is told of; empty for nobody."""
        assert self.allowed, self.error
        if (assertion := self.headers.get("x-authsvc-assertion")) is None:
            assert "x-authsvc-assertion" in self.removed
            return ""
        claims = jwt.decode(assertion, options={"verify_signature": False})
        assert claims["aud"] == RESOURCE
        return str(claims["sub"])

    @property
    def refusal(self) -> tuple[str, int, str]:
        """Its code, and status and reason as SessionGate answers them."""
        name = ExtMcpError.Code.Name(self.code).removeprefix("CODE_")
        assert not self.allowed
        return name, self.error["code"], self.error.get("data", {}).get("reason", "")


class Guardrail:
    """agentgateway, as it asks authsvc."""

    def __init__(self, channel: aio.Channel) -> None:
        self._request: Callable[..., Any] = channel.unary_unary(f"/{SERVICE_NAME}/CheckRequest")
        self._response: Callable[..., Any] = channel.unary_unary(f"/{SERVICE_NAME}/CheckResponse")

    async def call(
        self,
        method: str,
        params: object = NONE,
        *,
        token: str = "",
        session: str = "",
        version: str = LEGACY,
        headers: Sequence[tuple[str, str]] = (),
        resource: str = RESOURCE,
        path: str = "/mcp",
        host: str = "mcp.example",
    ) -> Result:
        """Ask about a call; params are bytes, or become JSON."""
        message = ExtMcpRequest(method=method)
        if params is not NONE:
            encoded = params if isinstance(params, bytes) else json.dumps(params).encode()
            message.mcp_request = encoded
        if resource:
            message.metadata_context["resource"] = resource
        for name, value in (
            *((":method", "POST"), (":path", path), (":authority", host)),
            *((("authorization", f"Bearer {token}"),) if token else ()),
            *((("mcp-session-id", session),) if session else ()),
            *((("mcp-protocol-version", version),) if version else ()),
            *headers,
        ):
            message.headers.add(key=name, value=value.encode())
        return Result.of(await self.request(message.SerializeToString()))

    async def request(self, encoded: bytes) -> bytes:
        answer: bytes = await self._request(encoded, timeout=TIMEOUT_SECONDS)
        return answer

    async def response(self, encoded: bytes) -> bytes:
        answer: bytes = await self._response(encoded, timeout=TIMEOUT_SECONDS)
        return answer

    async def tool(self, tool: str = "read", **arguments: Any) -> Result:  # noqa: ANN401
        """Ask about a call of a tool; arguments as of ``call``."""
        return await self.call("tools/call", {"name": tool, "arguments": {}}, **arguments)


@dataclass
class Both:
    """The two gateways of one authsvc."""

    guardrail: Guardrail
    gateway: Gateway


@asynccontextmanager
async def serving_both(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    *routes: dict[str, object],
    ext_mcp: bool = True,
    adopt_sessions: bool = True,
    **more: object,
) -> AsyncIterator[Both]:
    table = with_gateways(*routes, ext_mcp=ext_mcp, adopt_sessions=adopt_sessions)
    tables: dict[str, Any] = {**table, **more}
    async with (
        serving(settings_for(tmp_path, idp, **tables), clock) as service,
        aio.insecure_channel(service.address) as channel,
        gateway_of(service.address) as gateway,
    ):
        yield Both(Guardrail(channel), gateway)


@pytest.fixture
async def both(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Both]:
    async with serving_both(tmp_path, clock, idp, ROUTE) as it:
        yield it


@pytest.fixture
def guardrail(both: Both) -> Guardrail:
    return both.guardrail


# What is allowed


@pytest.mark.parametrize("method", ["initialize", "ping", "tools/list", "notifications/x"])
async def test_open_methods_need_no_token(guardrail: Guardrail, method: str) -> None:
    result = await guardrail.call(method)
    assert result.subject == ""
    assert {"x-authsvc-assertion", "x-authsvc-credentials"} <= result.removed
    assert result.metadata == {"resource": RESOURCE, "method": method, "outcome": "anonymous"}


async def test_the_server_learns_who_asks_and_gets_no_token(
    guardrail: Guardrail, idp: IdentityProvider
) -> None:
    token = idp.token(scope="objects.read")
    forged = ("x-authsvc-assertion", "x_authsvc_assertion", "x-authsvc-other", "x-method-override")
    headers = [(name, "forged") for name in forged]
    result = await guardrail.tool(token=token, session="s1", headers=headers)
    assert result.subject == "alice"
    assert {"authorization", *forged} - {"x-authsvc-assertion"} <= result.removed
    assert not result.removed & {*result.headers}
    # The gateway's sessions with the server are its own.
    later = await guardrail.tool(token=token, session="s1", version=MODERN)
    for one in (result, later):
        assert "mcp-session-id" not in {*one.headers, *one.removed}
    assert (result.metadata["subject"], result.metadata["tool"]) == ("alice", "read")
    assert token.encode() not in result.encoded


async def test_the_resource_is_found_by_host_and_path(
    guardrail: Guardrail, idp: IdentityProvider
) -> None:
    token = idp.token(scope="objects.read")
    assert (await guardrail.tool(token=token, resource="")).subject == "alice"


# What is denied


async def test_a_call_without_a_token_is_denied(guardrail: Guardrail) -> None:
    for method in ("tools/call", "resources/read", "Ping", ""):
        result = await guardrail.call(method, {})
        assert result.refusal == ("PERMISSION_DENIED", 401, "")
    assert result.error["message"] == "This request needs an access token."


async def test_a_bad_token_is_denied_for_open_methods_too(
    guardrail: Guardrail, idp: IdentityProvider
) -> None:
    for method in ("tools/call", "ping"):
        result = await guardrail.call(method, {}, token=idp.forged())
        assert result.refusal == ("PERMISSION_DENIED", 401, "TOKEN_SIGNATURE_INVALID")


async def test_a_tool_needs_its_scopes(guardrail: Guardrail, idp: IdentityProvider) -> None:
    reader, writer = idp.token(scope="objects.read"), idp.token(scope="objects.read objects.write")
    assert (await guardrail.tool("read", token=reader)).subject == "alice"
    denied = ("PERMISSION_DENIED", 403, "INSUFFICIENT_SCOPE")
    assert (await guardrail.tool("delete", token=reader)).refusal == denied
    assert (await guardrail.tool("delete", token=writer)).subject == "alice"
    assert (await guardrail.tool("read", token=idp.token(scope=""))).refusal == denied


async def test_a_session_is_its_first_owners(guardrail: Guardrail, idp: IdentityProvider) -> None:
    alice, bob = (idp.token(it, scope="objects.read") for it in ("alice", "bob"))
    assert (await guardrail.tool(token=alice, session="s1")).subject == "alice"
    other = await guardrail.tool(token=bob, session="s1")
    assert other.refusal[:2] == ("PERMISSION_DENIED", 404)
    assert (await guardrail.tool(token=bob, session="s2")).subject == "bob"
    assert (await guardrail.tool(token=alice, session="s1")).subject == "alice"


async def test_sessions_are_adopted_where_checks_would_mint_them(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with serving_both(tmp_path, clock, idp, adopt_sessions=False) as both:
        assert (await both.guardrail.tool(token=idp.token(), session="s1")).subject == "alice"
        assert not (await both.guardrail.tool(token=idp.token("bob"), session="s1")).allowed


@pytest.mark.parametrize(
    "where",
    [
        {"resource": "https://unknown.example/mcp"},
        {"resource": "", "path": "/other"},
        {"resource": "", "host": "other.example"},
        {"resource": "no uri"},
    ],
)
async def test_an_unknown_resource_is_denied(
    guardrail: Guardrail, idp: IdentityProvider, where: dict[str, Any]
) -> None:
    token = idp.token(scope="objects.read")
    for result in (
        await guardrail.tool(token=token, **where),
        await guardrail.call("ping", **where),
    ):
        assert not result.allowed
        assert result.refusal[2] in {"CALLER_NOT_ALLOWED", "RESOURCE_INVALID"}


@pytest.mark.parametrize(
    "params",
    [
        b"",
        b"{",
        b"{} {}",
        b"{}}",
        b'{},"method":"ping"',
        b'{},"method":"ping","x":{}',
        b'{"name":"read","name":"delete"}',
        b'{"name":"read","Name":"delete"}',
        b'{"name":"\xff"}',
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":NaN}',
    ],
)
async def test_params_that_can_be_read_in_two_ways_are_refused(
    guardrail: Guardrail, idp: IdentityProvider, params: bytes
) -> None:
    token = idp.token(scope="objects.read objects.write")
    assert (await guardrail.tool("delete", token=token)).allowed
    result = await guardrail.call("tools/call", params, token=token)
    assert result.refusal[0] == "INVALID", result


async def test_a_method_is_one_string(guardrail: Guardrail) -> None:
    result = await guardrail.call('ping","x":"', {})
    assert result.refusal[:2] == ("PERMISSION_DENIED", 401)


async def test_headers_about_the_clients_body_do_not_matter(
    guardrail: Guardrail, idp: IdentityProvider
) -> None:
    headers = [
        ("content-type", "text/plain"),
        ("Content-Length", "3"),
        ("transfer-encoding", "chunked"),
        ("x-envoy-auth-partial-body", "true"),
        ("mcp-name", "server_read"),
    ]
    token = idp.token(scope="objects.read")
    result = await guardrail.tool(token=token, headers=headers, version=MODERN)
    assert result.subject == "alice"


@pytest.mark.parametrize("name", ["authorization", "mcp-session-id", "mcp-protocol-version"])
async def test_a_header_that_comes_twice_is_refused(
    guardrail: Guardrail, idp: IdentityProvider, name: str
) -> None:
    token = idp.token(scope="objects.read")
    value = f"Bearer {token}" if name == "authorization" else LEGACY
    result = await guardrail.tool(token=token, session="s", headers=[(name, value)])
    assert result.refusal[0] == "INVALID"


# It is the check that Envoy makes.


CALLS: tuple[tuple[str, object], ...] = (
    ("initialize", {"protocolVersion": LEGACY}),
    ("notifications/initialized", {}),
    ("ping", {}),
    ("tools/list", {}),
    ("tools/call", {"name": "read"}),
    ("tools/call", {"name": "delete", "arguments": {"n": 1e300, "deep": [[[]]]}}),
    ("tools/call", {"name": 1}),
    ("tools/call", []),
    ("resources/read", {"uri": "file:///a"}),
    ("unknown", {}),
)


@pytest.mark.parametrize("version", [LEGACY, MODERN, "", "1999-01-01"])
async def test_it_decides_as_the_check_does(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, version: str
) -> None:
    tokens = {
        "nobody": "",
        "reader": idp.token(scope="objects.read"),
        "writer": idp.token(scope="objects.read objects.write"),
        "forged": idp.forged(),
    }
    route = {**ROUTE, "adopt_sessions": True}
    allowed = set()
    async with serving_both(tmp_path, clock, idp, route) as both:
        for who, session in product(tokens, ("", "s")):
            for method, params in CALLS:
                asked: dict[str, Any] = {
                    "token": tokens[who],
                    "session": session and f"{session}-{who}",
                    "version": version,
                }
                ours = await both.guardrail.call(method, params, **asked)
                body = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
                theirs = await both.gateway.post(body, **asked)
                assert ours.allowed == theirs.allowed, (method, who)
                allowed.add(ours.allowed)
                if not theirs.allowed:
                    assert ours.error == json.loads(theirs.body)["error"]
                    continue
                assert ours.subject == ("alice" if theirs.assertion else "")
                # The second of two requests finds the session that the first has made.
                assert {**ours.metadata, "outcome": ""} == {**theirs.metadata, "outcome": ""}
    assert allowed == ({False} if version == "1999-01-01" else {False, True})


# Results, limits and failures


async def test_results_are_passed_on(guardrail: Guardrail) -> None:
    for encoded in (b"", b"\xff", b"\x22\x02{}"):
        result = ExtMcpResponseResult.FromString(await guardrail.response(encoded))
        assert result.HasField("passed")


async def test_it_is_served_only_where_that_is_configured(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with serving_both(tmp_path, clock, idp, ROUTE, ext_mcp=False) as both:
        with pytest.raises(grpc.RpcError) as caught:
            await both.guardrail.call("ping")
        assert status_of(caught.value) == grpc.StatusCode.UNIMPLEMENTED


async def test_what_is_no_request_is_an_error_of_the_gateway(guardrail: Guardrail) -> None:
    for encoded in (b"\xff", b"\x12\x01\xff"):
        with pytest.raises(grpc.RpcError) as caught:
            await guardrail.request(encoded)
        assert status_of(caught.value) == grpc.StatusCode.INVALID_ARGUMENT


async def test_gateways_are_registered(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    callers = [{"name": "a", "resources": [RESOURCE], "service_token_sha256": [NOBODYS_DIGEST]}]
    changes: dict[str, Any] = {"resources": [], "callers": callers}
    async with serving_both(tmp_path, clock, idp, ROUTE, **changes) as both:
        with pytest.raises(grpc.RpcError) as caught:
            await both.guardrail.call("ping")
        assert status_of(caught.value) == grpc.StatusCode.PERMISSION_DENIED


async def test_calls_are_limited(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    limits = {"calls_per_second": 1, "calls_burst": 1}
    async with serving_both(tmp_path, clock, idp, ROUTE, limits=limits) as both:
        assert (await both.guardrail.call("ping")).allowed
        result = await both.guardrail.call("ping")
        assert result.refusal == ("RESOURCE_EXHAUSTED", 429, "OVERLOADED")


async def test_an_outage_is_a_denial(
    guardrail: Guardrail, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: object, **__: object) -> Resolution:
        raise AuthError(Reason.STORE_UNAVAILABLE, "for the log")

    monkeypatch.setattr(SessionResolver, "resolve", resolve)
    result = await guardrail.tool(token=idp.token())
    assert result.refusal == ("UNSPECIFIED", 503, "STORE_UNAVAILABLE")
    assert b"for the log" not in result.encoded
