"""A CheckRequest as it is read: each form of headers and bodies that gateways send."""

from __future__ import annotations

import json
import logging

import pytest

from authsvc.common.rarely import Rarely
from authsvc.domain.errors import AuthError, Reason
from authsvc.gateways import check_requests
from authsvc.gateways.check_requests import CheckedRequest
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzFrame, ExtAuthzRequest
from tests.support.checks import request, tool_call

BODY = json.dumps(tool_call()).encode()


def read(message: ExtAuthzRequest) -> CheckedRequest:
    return CheckedRequest.of(EncodedCheck.of(message.SerializeToString()))


def with_header(message: ExtAuthzRequest, name: str, value: str) -> ExtAuthzRequest:
    """The message, the header replaced; without it where the value is empty."""
    headers = message.attributes.request.http.header_map.headers
    kept = [header for header in headers if header.key != name]
    del headers[:]
    headers.extend(kept)
    if value:
        headers.add(key=name, raw_value=value.encode())
    return message


@pytest.mark.parametrize("as_map", [False, True])
def test_what_a_gateway_sends_is_read(as_map: bool) -> None:
    message = request(
        "POST", BODY, token="t", path="/files/mcp?x=1", host="mcp.example:8443", as_map=as_map
    )
    found = read(message)
    assert (found.method, found.host, found.path) == ("POST", "mcp.example:8443", "/files/mcp")
    assert (found.body, found.resource) == (BODY, "https://mcp.example/mcp")
    assert found.headers.get("authorization") == "Bearer t"
    assert not [name for name in found.headers.names if name.startswith(b":")]


def test_headers_in_a_list_keep_their_bytes_and_their_number() -> None:
    message = request("POST", BODY, headers=[("mcp-x", "\xe9,b"), ("mcp-x", "c")])
    assert [value for name, value in read(message).headers.raw if name == b"mcp-x"] == [
        b"\xe9,b",
        b"c",
    ]


def test_a_value_in_a_list_may_be_text() -> None:
    message = request("POST", BODY)
    message.attributes.request.http.header_map.headers.add(key="mcp-x", value="é")
    assert read(message).headers.raw[-1] == (b"mcp-x", "é".encode())


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "content-type", "content-length", "content-encoding", "last-event-id"),
        *("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-x"),
    ],
)
def test_a_header_that_comes_once_is_several_where_a_map_has_joined_it(name: str) -> None:
    message = request("GET", headers=[(name, "a"), (name, "b")], version="", as_map=True)
    assert read(message).headers.getlist(name) == ["a", "b"]


@pytest.mark.parametrize("name", ["authorization", "content-type", "content-length"])
def test_a_header_that_envoy_joins_in_a_list_is_several(name: str) -> None:
    message = request("GET", headers=[(name, "a,b")], version="")
    assert read(message).headers.getlist(name) == ["a", "b"]


@pytest.mark.parametrize("name", ["mcp-name", "mcp-param-x", "upgrade"])
def test_other_commas_of_a_list_stay(name: str) -> None:
    message = request("GET", headers=[(name, "a,b")], version="")
    assert read(message).headers.getlist(name) == ["a,b"]


def test_other_headers_of_a_map_stay_joined() -> None:
    message = request("GET", headers=[("upgrade", "a/b"), ("upgrade", "c/d")], as_map=True)
    assert read(message).headers.getlist("upgrade") == ["a/b,c/d"]


@pytest.mark.parametrize("as_map", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_whole_body_is_complete(as_map: bool, as_text: bool) -> None:
    message = request("POST", "grüße ✓".encode(), as_map=as_map, as_text=as_text)
    assert read(message).body == "grüße ✓".encode()


def test_a_body_without_a_length_is_complete() -> None:
    assert read(with_header(request("POST", BODY), "content-length", "")).body == BODY


def test_an_empty_body_of_length_0_is_complete() -> None:
    assert read(request("POST")).body == b""


@pytest.mark.parametrize("value", ["true", "TRUE", "1", ""])
def test_a_body_that_the_gateway_calls_partial_is_cut_off(value: str) -> None:
    message = with_header(request("POST", BODY), "x-envoy-auth-partial-body", "")
    message.attributes.request.http.header_map.headers.add(
        key="x-envoy-auth-partial-body", raw_value=value.encode()
    )
    assert read(message).body is None


def test_any_partial_header_counts() -> None:
    message = request("POST", BODY, headers=[("x-envoy-auth-partial-body", "true")])
    assert read(message).body is None


def test_a_body_that_was_not_sent_is_cut_off() -> None:
    assert read(request("POST", BODY, sends_body=False)).body is None


def test_without_a_length_an_empty_body_is_cut_off() -> None:
    assert read(with_header(request("POST"), "content-length", "")).body is None


@pytest.mark.parametrize("length", [len(BODY) + 1, len(BODY) - 1, f"0{len(BODY)}", "x", -1])
def test_a_body_of_another_length_is_cut_off(length: object) -> None:
    assert read(with_header(request("POST", BODY), "content-length", str(length))).body is None


@pytest.mark.parametrize("size", [len(BODY) + 1, -1])
def test_a_body_of_which_the_gateway_received_more_is_cut_off(size: int) -> None:
    message = with_header(request("POST", BODY), "content-length", "")
    message.attributes.request.http.size = size
    assert read(message).body is None


def test_a_text_in_which_bytes_may_have_been_replaced_is_cut_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_requests, "_notes", Rarely(3600.0, lambda: 0.0))
    for body in (b'{"a":"\xff"}', b'{"a":"hi!"}', '{"a":"\N{REPLACEMENT CHARACTER}"}'.encode()):
        assert read(request("POST", body, as_text=True)).body is None
        assert read(request("POST", body)).body == body
    (note,) = [it for it in caplog.records if it.levelno == logging.WARNING]
    assert "pack_as_bytes" in note.getMessage()


@pytest.mark.parametrize("encoded", [b"\xff", b"", ExtAuthzRequest().SerializeToString()])
def test_what_is_no_check_of_an_http_request_is_an_error(encoded: bytes) -> None:
    with pytest.raises(AuthError) as caught:
        EncodedCheck.of(encoded)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


def test_no_repr_shows_a_token() -> None:
    assert "sesame" not in repr(read(request("POST", BODY, token="sesame")))


def test_headers_in_both_forms_are_an_error() -> None:
    """What one of them has, and the other has not, would be neither read nor removed."""
    message = request("POST", b"{}")
    message.attributes.request.http.headers["authorization"] = "Bearer x"
    with pytest.raises(AuthError) as caught:
        read(message)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


@pytest.mark.parametrize("name", ["mcp-param-" + "x" * 117, "mcp-param-" + "x" * 118, "MCP-Name"])
def test_names_of_any_length_and_case_are_read(name: str) -> None:
    message = with_header(request("GET"), "mcp-protocol-version", "")
    message.attributes.request.http.header_map.headers.add(key=name, raw_value=b"v")
    assert read(message).headers.raw[-1] == (name.lower().encode(), b"v")


def test_a_name_after_its_value_is_read() -> None:
    header = b"\x1a\x06accept\x0a\x0dauthorization"
    assert check_with(header).headers == [header]


@pytest.mark.parametrize("header", [b"", b"\x0a"])
def test_a_header_without_a_name_is_none(header: bytes) -> None:
    with pytest.raises(AuthError) as caught:
        check_with(header)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


def test_a_header_that_cannot_be_read_is_none() -> None:
    check = check_with(b"\x0a\x08mcp-name\x12\x01\xff")
    with pytest.raises(AuthError) as caught:
        CheckedRequest.of(check)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"\x0a\x0btraceparent\x1a\x02ab", "ab"),
        (b"\x0a\x0btraceparent\x12\x02ab", "ab"),
        (b"\x0a\x0btraceparent\x12\x01\xff", ""),
        (b"\x0a\x06accept\x12\x01a", ""),
    ],
)
def test_the_trace_is_read_for_a_span_alone(header: bytes, found: str) -> None:
    check = check_with(header)
    assert check.traceparent() == found
    assert check.headers == []


def check_with(header: bytes) -> EncodedCheck:
    """A check with one header, encoded as given."""
    frame = ExtAuthzFrame()
    frame.attributes.request.http.method = "GET"
    frame.attributes.request.http.header_map.headers.append(header)
    return EncodedCheck.of(frame.SerializeToString())
