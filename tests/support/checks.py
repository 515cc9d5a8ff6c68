"""A gateway's checks: as Envoy makes them, over gRPC, against a real authsvc.

Messages are made and read by the subset of Envoy's proto; ``tests/authsvc/gateways/official`` does
so with the official stubs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2
from grpc import aio

from authsvc.gateways.ext_authz import SERVICE_NAME
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest, ExtAuthzResponse
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import Service, serving
from tests.support.tokens import RESOURCE

CHECK = f"/{SERVICE_NAME}/Check"

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

ASSERTIONS = {"issuer": "https://authsvc.example", "listen": "127.0.0.1:0"}


def with_gateways(
    *routes: Mapping[str, object], **ext_authz: object
) -> dict[str, Mapping[str, object]]:
    """The changes of ``settings_for`` that serve gateways."""
    return {"assertions": ASSERTIONS, "ext_authz": {"routes": routes, **ext_authz}}


def rpc(method: str, params: Mapping[str, object] | None = None) -> dict[str, object]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}


def tool_call(tool: str = "read") -> dict[str, object]:
    """A call of a tool."""
    return rpc("tools/call", {"name": tool, "arguments": {}})


@dataclass
class Answer:
    """What a check came to.

    Attributes:
        allowed: whether the gateway passes the request on.
        status: of the gateway's own answer; 0 where it passes the request on.
        headers: of that answer; or those that the upstream gets.
        removed: names of headers that the upstream does not get.
        to_client: headers of the upstream's response that are set.
        body: of the gateway's own answer.
        metadata: dynamic metadata.
        encoded: all of it.
    """

    allowed: bool
    status: int
    headers: dict[str, str]
    removed: list[str]
    to_client: dict[str, str]
    body: str
    metadata: dict[str, Any]
    encoded: bytes = field(repr=False)

    @classmethod
    def of(cls, encoded: bytes) -> Answer:
        """Read as Envoy reads it."""
        response = ExtAuthzResponse.FromString(encoded)
        kind = response.WhichOneof("http_response")
        allowed = response.status.code == code_pb2.OK
        assert kind == ("ok_response" if allowed else "denied_response")
        ok, denied = response.ok_response, response.denied_response
        return cls(
            allowed=allowed,
            status=denied.status.code,
            headers=_headers(ok.headers if allowed else denied.headers),
            removed=list(ok.headers_to_remove),
            to_client=_headers(ok.response_headers_to_add),
            body=denied.body,
            metadata=MessageToDict(response.dynamic_metadata),
            encoded=encoded,
        )

    @property
    def reason(self) -> str:
        """Why it is denied, as the JSON-RPC error says."""
        return str(json.loads(self.body)["error"].get("data", {}).get("reason", ""))

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and reason of a denial."""
        return self.status, self.reason

    @property
    def assertion(self) -> str:
        """What tells the upstream who is asking; empty for none."""
        return self.headers.get("x-authsvc-assertion", "")


def _headers(options: Sequence[ExtAuthzResponse.HeaderValueOption]) -> dict[str, str]:
    for option in options:
        # Older gateways read the one, newer ones the other: both replace.
        assert option.HasField("append")
        assert not option.append.value
        assert option.append_action == ExtAuthzResponse.APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD
        assert not option.header.raw_value
    found = {option.header.key: option.header.value for option in options}
    assert len(found) == len(options)
    return found


def request(
    method: str = "POST",
    body: object = None,
    *,
    headers: Sequence[tuple[str, str]] = (),
    token: str = "",
    session: str = "",
    version: str = LEGACY,
    path: str = "/mcp",
    host: str = "mcp.example",
    resource: str = RESOURCE,
    as_map: bool = False,
    as_text: bool = False,
    sends_body: bool = True,
    peer: str = "",
) -> ExtAuthzRequest:
    """A CheckRequest as Envoy makes it.

    Args:
        method: HTTP's.
        body: bytes, or what becomes JSON; None for none.
        headers: besides those that the other arguments make.
        token: a bearer token.
        session: Mcp-Session-Id.
        version: MCP-Protocol-Version; empty for none.
        path: of the request, with its query.
        host: of the request.
        resource: in ``context_extensions``; empty for none.
        as_map: without ``encode_raw_headers``.
        as_text: without ``pack_as_bytes``.
        sends_body: whether the gateway has ``with_request_body``.
        peer: address that the request comes from; empty for a Unix socket.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    content = b"" if body is None else content
    names = [
        (":method", method),
        (":path", path),
        (":authority", host),
        *([("content-type", "application/json")] if method == "POST" else []),
        *([("content-length", str(len(content)))] if method == "POST" else []),
        *([("authorization", f"Bearer {token}")] if token else []),
        *([("mcp-session-id", session)] if session else []),
        *([("mcp-protocol-version", version)] if version else []),
        *headers,
        *([("x-envoy-auth-partial-body", "false")] if content and sends_body else []),
    ]
    message = ExtAuthzRequest()
    if peer:
        message.attributes.source.address.socket_address.address = peer
    http = message.attributes.request.http
    http.method, http.path, http.host, http.scheme = method, path, host, "https"
    if content and sends_body:
        http.size = len(content)
        if as_text:
            http.body = content.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "!")
        else:
            http.raw_body = content
    for name, value in names:
        if as_map:
            before = f"{http.headers[name]}," if name in http.headers else ""
            http.headers[name] = before + value
        else:
            http.header_map.headers.add(key=name, raw_value=value.encode("latin-1"))
    if resource:
        message.attributes.context_extensions["resource"] = resource
    return message


class Gateway:
    """A gateway that asks one authsvc.

    Args:
        channel: to it.
    """

    def __init__(self, channel: aio.Channel) -> None:
        self._check: Callable[..., Any] = channel.unary_unary(CHECK)

    async def check(
        self, message: ExtAuthzRequest | bytes, metadata: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Ask about a request. Raises what gRPC raises."""
        encoded = message if isinstance(message, bytes) else message.SerializeToString()
        return Answer.of(
            await self._check(encoded, timeout=TIMEOUT_SECONDS, metadata=tuple(metadata))
        )

    async def post(self, body: object, **arguments: Any) -> Answer:  # noqa: ANN401 - as request's
        """Ask about a POST; arguments as of ``request``."""
        return await self.check(request("POST", body, **arguments))

    async def get(self, **arguments: Any) -> Answer:  # noqa: ANN401 - as request's
        """Ask about a GET."""
        return await self.check(request("GET", **arguments))

    async def delete(self, **arguments: Any) -> Answer:  # noqa: ANN401 - as request's
        """Ask about a DELETE."""
        return await self.check(request("DELETE", **arguments))


@asynccontextmanager
async def gateway_of(address: str) -> AsyncIterator[Gateway]:
    """A gateway in front of an authsvc that takes plaintext."""
    async with aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield Gateway(channel)


@dataclass
class Behind:
    """An authsvc, a client of it, and a gateway."""

    service: Service
    gateway: Gateway


@asynccontextmanager
async def serving_gateways(settings: Settings, clock: Callable[[], float]) -> AsyncIterator[Behind]:
    """Run an authsvc with ``[ext_authz]``."""
    async with (
        serving(settings, clock) as service,
        gateway_of(service.address) as gateway,
    ):
        yield Behind(service, gateway)


def status_of(error: grpc.RpcError) -> grpc.StatusCode:
    """The status that a call ended with."""
    assert isinstance(error, aio.AioRpcError)
    return error.code()
