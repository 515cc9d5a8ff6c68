"""Envoy's Check in place of a resolve: the same session and token, in an HTTP request."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from authsvc.internal.v1 import ext_authz_pb2 as envoy
from authsvc.v1 import auth_pb2 as pb

CHECK = "/envoy.service.auth.v3.Authorization/Check"

VERSION = "2025-11-25"

BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "whoami", "arguments": {}},
    }
).encode()
"""A call of a tool."""

_HEADERS = {
    "accept": "application/json, text/event-stream",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "content-length": str(len(BODY)),
    "content-type": "application/json",
    "mcp-protocol-version": VERSION,
    "user-agent": "python-httpx2/2.16",
    "x-envoy-auth-partial-body": "false",
    "x-forwarded-proto": "https",
    "x-request-id": "5f0e6a3c-1f3b-4a8e-9a53-0c7d6f3a9b21",
}
"""What Envoy sends with each request of an MCP client, besides the token and the session."""


def check_of(request: pb.ResolveSessionRequest) -> bytes:
    """The Check of a tool call with the session and the token of a resolve, encoded."""
    url = urlsplit(request.resource)
    headers = {
        **_HEADERS,
        ":authority": url.netloc,
        ":method": "POST",
        ":path": url.path,
        ":scheme": "https",
    }
    if request.token:
        headers["authorization"] = f"Bearer {request.token}"
    if request.session_id:
        headers["mcp-session-id"] = request.session_id
    raw = [
        envoy.ExtAuthzRequest.HeaderValue(key=name, raw_value=value.encode())
        for name, value in headers.items()
    ]
    http = envoy.ExtAuthzRequest.Http(
        method="POST",
        path=url.path,
        host=url.netloc,
        scheme="https",
        size=len(BODY),
        raw_body=BODY,
        header_map=envoy.ExtAuthzRequest.HeaderMap(headers=raw),
    )
    attributes = envoy.ExtAuthzRequest.Attributes(
        request=envoy.ExtAuthzRequest.Request(http=http),
        context_extensions={"resource": request.resource},
    )
    return envoy.ExtAuthzRequest(attributes=attributes).SerializeToString()


def is_allowed(answer: bytes) -> bool:
    """Whether a response to a Check allows the request, and names its caller."""
    response = envoy.ExtAuthzResponse.FromString(answer)
    named = {option.header.key for option in response.ok_response.headers}
    return response.status.code == 0 and "x-authsvc-assertion" in named
