"""The fuzzed function: what a gateway sends for a check. It runs without a fuzzer, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import cast

import jwt
from google.rpc import code_pb2
from grpc import StatusCode

from authsvc.access.callers import LOCAL_CALLER, Caller, Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Resolution
from authsvc.gateways.ext_authz import ExtAuthzServicer
from authsvc.gateways.routes import Route, Routes
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest, ExtAuthzResponse
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Admission
from authsvc.rpc.metadata import Context
from authsvc.stores.memory import MemoryStore
from authsvc.telemetry.counts import Checks
from authsvc.telemetry.spans import NoTracing
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from fuzz.tokens import NOW, RESOURCE, SECRET

MINTED = "https://minted.example/mcp"
UNREAD = "https://unread.example/mcp"

_LOOP = asyncio.new_event_loop()

_ROUTES = [
    Route(
        RESOURCE,
        scopes=("read",),
        tools={"delete": ("write",)},
        authorization_servers=("https://idp.example",),
    ),
    Route(MINTED, adopt_sessions=False),
    Route(UNREAD, routing_headers=True),
]


class _Context:
    """Of a call on this machine; keeps the status that it ends with."""

    code: StatusCode | None = None

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return ()

    def auth_context(self) -> Mapping[str, object]:
        return {}

    def peer(self) -> str:
        return "unix:"

    def set_code(self, code: StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        pass

    def set_trailing_metadata(self, metadata: object) -> None:
        pass


class _Signer:
    """Signs nothing: the assertion is the subject."""

    def assertion(self, resolution: Resolution, *, resource: str, token_digest: bytes) -> str:
        assert resolution.principal is not None
        return resolution.principal.subject


def _servicer() -> ExtAuthzServicer:
    """An authsvc on which nothing has been asked yet."""
    usages = Usages(CallerLimits(), lambda: NOW)
    verifier = JwtVerifier(
        [Issuer("standard", KeySet((VerificationKey(None, "HS256", SECRET.encode()),)))]
    )
    resolver = SessionResolver(
        verifier,
        MemoryStore(unauthenticated_cap=10),
        None,
        limits=Limits(),
        usages=usages,
        clock=lambda: NOW,
    )
    caller = Caller(LOCAL_CALLER, frozenset(route.resource for route in _ROUTES))
    return ExtAuthzServicer(
        resolver,
        Admission(Callers((), local=caller), usages),
        Routes(_ROUTES, adopt_sessions=True),
        _Signer(),
        Checks(),
        NoTracing(),
    )


def check_verdict(data: bytes) -> str:
    """What a gateway is told: the name of a gRPC status, the HTTP status that it answers, or
    nothing where it passes the request on.

    Any exception is a finding, and so are an unexpected error, a request that is passed on with a
    client's token or with a header of authsvc's from elsewhere, and a header that is set and
    removed.
    """
    context = _Context()
    encoded = _LOOP.run_until_complete(_servicer().Check(data, cast("Context", context)))
    if context.code is not None:
        assert (context.code, encoded) == (StatusCode.INVALID_ARGUMENT, b"")
        return context.code.name
    response = ExtAuthzResponse.FromString(encoded)
    if response.status.code != code_pb2.OK:
        denied = response.denied_response
        assert denied.status.code != 500
        assert 200 <= denied.status.code < 600
        return str(denied.status.code)
    _check_headers(ExtAuthzRequest.FromString(data), response)
    return ""


def _check_headers(request: ExtAuthzRequest, response: ExtAuthzResponse) -> None:
    told = {option.header.key for option in response.ok_response.headers}
    removed = {*response.ok_response.headers_to_remove}
    assert not told & removed
    http = request.attributes.request.http
    names = (*(header.key for header in http.header_map.headers), *http.headers)
    for name in {name.lower() for name in names} - told - removed:
        spelled = name.replace("_", "-")
        assert spelled != "authorization"
        assert not spelled.startswith("x-authsvc-")
    assert "x-authsvc-assertion" in told | removed


def seeds() -> dict[str, bytes]:
    """Inputs by name."""
    claims = {"iss": "standard", "sub": "alice", "aud": RESOURCE, "exp": NOW + 600, "iat": NOW}
    bearer = f"Bearer {jwt.encode({**claims, 'scope': 'read'}, SECRET, 'HS256')}"
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read"}}
    ping = {**call, "method": "ping"}
    delete = {**call, "params": {"name": "delete"}}
    routing = {"mcp-protocol-version": "2026-07-28", "mcp-method": "ping"}
    body = json.dumps(call)
    return {
        "open": _request(ping),
        "called": _request(call, {"authorization": bearer, "mcp-session-id": "theirs"}),
        "lacking": _request(delete, {"authorization": bearer}),
        "batch": _request([call, ping], {"mcp-protocol-version": "2025-03-26"}),
        "initialize": _request({**call, "method": "initialize"}, resource=MINTED),
        "forged": _request(call, {"x_authsvc_assertion": "forged", "x-authsvc-x": "forged"}),
        "padded": _request(ping, {"Mcp-Protocol-Version": " 2025-11-25 ", "Authorization": "B"}),
        "joined": _request(ping, {"authorization": f"{bearer},{bearer}"}, as_map=True),
        "cut": _request(call, {"x-envoy-auth-partial-body": "true", "authorization": bearer}),
        "text": _request(None, text=body.replace("read", "!")),
        "unread": _request(None, routing, resource=UNREAD),
        "stream": _request(None, {"authorization": bearer, "mcp-session-id": "x"}, method="GET"),
        "end": _request(None, {"authorization": bearer, "mcp-session-id": "x"}, method="DELETE"),
        "other": _request(None, method="OPTIONS"),
        "by-place": _request(ping, resource="", path="/mcp?x=1"),
        "metadata": _request(None, method="GET", path="/.well-known/oauth-protected-resource/mcp"),
        "elsewhere": _request(ping, resource="https://other.example"),
        "twice": _request(ping) + _request(ping, {"authorization": bearer}, as_map=True),
        "nothing": b"",
        "no-message": b"\xff\xff",
    }


def _request(
    message: object,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    path: str = "/mcp",
    resource: str = RESOURCE,
    text: str = "",
    as_map: bool = False,
) -> bytes:
    request = ExtAuthzRequest()
    http = request.attributes.request.http
    http.method, http.path, http.host = method, path, "mcp.example"
    http.raw_body = b"" if message is None else json.dumps(message).encode()
    http.body = text
    http.size = len(http.raw_body or text)
    length = {"content-length": str(http.size)} if http.size else {}
    for name, value in {"content-type": "application/json", **length, **(headers or {})}.items():
        if as_map:
            http.headers[name] = value
        else:
            http.header_map.headers.add(key=name, raw_value=value.encode())
    if resource:
        request.attributes.context_extensions["resource"] = resource
    return request.SerializeToString(deterministic=True)
