"""What a load asks in place of a resolve: Envoy's Check."""

from __future__ import annotations

import json

import pytest

from authsvc.internal.v1 import ext_authz_pb2 as envoy
from authsvc.v1 import auth_pb2 as pb
from bench.checks import check_of, is_allowed

RESOURCE = "https://mcp.example/mcp"


def headers_of(request: pb.ResolveSessionRequest) -> dict[str, bytes]:
    http = envoy.ExtAuthzRequest.FromString(check_of(request)).attributes.request.http
    assert json.loads(http.raw_body)["method"] == "tools/call"
    return {header.key: header.raw_value for header in http.header_map.headers}


def test_a_check_has_the_session_and_the_token_of_the_resolve() -> None:
    asked = pb.ResolveSessionRequest(session_id="session", token="a.b.c", resource=RESOURCE)
    headers = headers_of(asked)
    assert (headers["authorization"], headers["mcp-session-id"]) == (b"Bearer a.b.c", b"session")
    assert (headers[":authority"], headers[":path"]) == (b"mcp.example", b"/mcp")
    assert not headers_of(pb.ResolveSessionRequest(resource=RESOURCE)).keys() & {
        "authorization",
        "mcp-session-id",
    }


@pytest.mark.parametrize(
    ("code", "header", "allowed"),
    [
        (0, "x-authsvc-assertion", True),
        (0, "x-other", False),
        (7, "x-authsvc-assertion", False),
    ],
)
def test_an_allowed_request_has_an_assertion(code: int, header: str, *, allowed: bool) -> None:
    response = envoy.ExtAuthzResponse()
    response.status.code = code
    response.ok_response.headers.add().header.key = header
    assert is_allowed(response.SerializeToString()) is allowed
