"""agentgateway's check of calls to MCP servers (``agentgateway.dev.ext_mcp.ExtMcp``).

A request is Envoy's check in other words: it is translated into one, and the response back, so that
one decision serves both. The gateway has read the call from the HTTP request, ends the client's
session, and opens sessions of its own behind it. It sends no body, but method and params.
"""

from __future__ import annotations

import json
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from authsvc.domain.errors import AuthError, Reason
from authsvc.gateways.encoded_checks import RESOURCE
from authsvc.gateways.ext_authz import ExtAuthzServicer
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest, ExtAuthzResponse
from authsvc.internal.v1.ext_mcp_pb2 import (
    ExtMcpError,
    ExtMcpRequest,
    ExtMcpRequestResult,
    ExtMcpResponseResult,
)
from authsvc.rpc.errors import end_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.registration import Handler

SERVICE_NAME = "agentgateway.dev.ext_mcp.ExtMcp"

_OTHER_BODY = frozenset(
    {
        *("content-type", "content-length", "content-encoding", "transfer-encoding"),
        # Envoy's own, which agentgateway would pass on from a client.
        "x-envoy-auth-partial-body",
        # Where several servers are behind one, clients name tools otherwise than params do.
        "mcp-name",
    }
)
"""Headers that are about the body of the client, and not about what is checked."""

_SET_PREFIX = "x-authsvc-"
_SESSIONS_PREFIX = "mcp-"

_CODES = {
    401: ExtMcpError.CODE_PERMISSION_DENIED,
    403: ExtMcpError.CODE_PERMISSION_DENIED,
    404: ExtMcpError.CODE_PERMISSION_DENIED,
    429: ExtMcpError.CODE_RESOURCE_EXHAUSTED,
    500: ExtMcpError.CODE_UNSPECIFIED,
    503: ExtMcpError.CODE_UNSPECIFIED,
}
"""By HTTP status; CODE_INVALID for any other."""


class ExtMcpServicer:
    """``ExtMcp`` over Envoy's checks.

    Args:
        checks: decides. Its routes adopt sessions: ids that it mints could not be sent to clients.
    """

    def __init__(self, checks: ExtAuthzServicer) -> None:
        self._checks = checks

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        methods: dict[str, Handler] = {
            "CheckRequest": grpc.unary_unary_rpc_method_handler(self.CheckRequest),
            "CheckResponse": grpc.unary_unary_rpc_method_handler(self.CheckResponse),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def CheckRequest(self, encoded: bytes, context: Context) -> bytes:  # noqa: N802 - gRPC's
        """Decide on a call; request and response are encoded."""
        try:
            check = _check_of(ExtMcpRequest.FromString(encoded))
        except DecodeError:
            end_with_status(AuthError(Reason.ARGUMENT_INVALID, "no McpRequest"), context)
            return b""
        checked = await self._checks.Check(check.SerializeToString(), context)
        # Where the call has ended with a status, gRPC sends no response.
        return _result_of(ExtAuthzResponse.FromString(checked)).SerializeToString()

    async def CheckResponse(self, encoded: bytes, context: Context) -> bytes:  # noqa: N802 - gRPC's
        """Pass a result on: who may have it was decided with the request."""
        response = ExtMcpResponseResult()
        response.passed.SetInParent()
        return response.SerializeToString()


def _check_of(request: ExtMcpRequest) -> ExtAuthzRequest:
    check = ExtAuthzRequest()
    http = check.attributes.request.http
    headers = {header.key: header.value for header in request.headers if header.key[:1] == ":"}
    http.method = "POST"
    http.host = headers.get(":authority", b"").decode("utf-8", "replace")
    http.path = headers.get(":path", b"").decode("utf-8", "replace")
    http.raw_body = _message_of(request)
    http.header_map.headers.add(key="content-type", value="application/json")
    http.header_map.headers.add(key="content-length", value=str(len(http.raw_body)))
    for header in request.headers:
        if header.key.lower() not in _OTHER_BODY:
            http.header_map.headers.add(key=header.key, raw_value=header.value)
    if resource := request.metadata_context.fields[RESOURCE].string_value:
        check.attributes.context_extensions[RESOURCE] = resource
    return check


def _message_of(request: ExtMcpRequest) -> bytes:
    """The call as a JSON-RPC message.

    Params that end early cannot put another method in place: a member that comes twice is refused.
    """
    params = b',"params":%b' % request.mcp_request if request.HasField("mcp_request") else b""
    method = json.dumps(request.method).encode()
    return b'{"jsonrpc":"2.0","id":0,"method":%b%b}' % (method, params)


def _result_of(response: ExtAuthzResponse) -> ExtMcpRequestResult:
    result = ExtMcpRequestResult()
    if response.status.code != code_pb2.OK:
        _deny(result.error, response.denied_response)
        return result
    result.passed.SetInParent()
    for option in response.ok_response.headers:
        if option.header.key.startswith(_SET_PREFIX):
            result.header_mutation.set.add(
                key=option.header.key, value=option.header.value.encode()
            )
    # What names the gateway's own session with the server is the gateway's.
    result.header_mutation.remove.extend(
        name
        for name in response.ok_response.headers_to_remove
        if not name.startswith(_SESSIONS_PREFIX)
    )
    result.metadata.CopyFrom(response.dynamic_metadata)
    return result


def _deny(error: ExtMcpError, answer: ExtAuthzResponse.Denied) -> None:
    error.code = _CODES.get(answer.status.code, ExtMcpError.CODE_INVALID)
    # Each answer to a POST has a JSON-RPC error.
    explained: dict[str, Any] = json.loads(answer.body)["error"] if answer.body else {}
    error.reason = str(explained.get("message", "The call is denied."))
    error.mcp_error = json.dumps(explained).encode()
