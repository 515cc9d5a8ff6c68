"""Headers in one form, and how they are looked up."""

from __future__ import annotations

import pytest

from authsvc.http_auth.forwarding import forwarded, without_ours
from authsvc.http_auth.headers import Headers, RawHeaders
from tests.mcp_adapter.harness import LEGACY, MODERN

TWICE = Headers([(b"X-A", b" 1\t"), (b"b", b"\xe9"), (b"x-a", b"2")])


def test_names_are_in_lower_case_and_values_trimmed() -> None:
    assert list(TWICE.raw) == [(b"x-a", b"1"), (b"b", b"\xe9"), (b"x-a", b"2")]
    assert set(TWICE.names) == {b"x-a", b"b"}


def test_what_is_in_one_form_is_not_copied() -> None:
    raw = [(b"a", b"1"), (b"a", b"2")]
    assert Headers(raw).raw is raw


@pytest.mark.parametrize("headers", [TWICE, Headers([*TWICE.raw[:2]])])
def test_the_first_of_several_is_found(headers: Headers) -> None:
    assert headers["x-a"] == headers.get("x-a") == "1"
    assert headers["b"] == "\xe9"
    assert ("b" in headers, "c" in headers) == (True, False)
    assert (headers.get("c"), headers.get("c", "x")) == ("", "x")
    assert headers.has_repeated is (headers is TWICE)
    assert headers.getlist("x-a") == ["1", "2"][: 1 + headers.has_repeated]
    assert headers.getlist("c") == []
    with pytest.raises(KeyError):
        headers["c"]


@pytest.mark.parametrize(
    ("name", "method", "version", "passes"),
    [
        ("accept", "POST", LEGACY, True),
        ("authorization", "POST", LEGACY, False),
        ("mcp-session-id", "POST", LEGACY, False),
        ("mcp_session_id", "POST", LEGACY, False),
        ("x-http-method-override", "POST", LEGACY, False),
        ("x_method_override", "POST", LEGACY, False),
        ("mcp-protocol-version", "POST", LEGACY, True),
        ("mcp_protocol_version", "POST", LEGACY, False),
        ("mcp-method", "POST", LEGACY, False),
        ("mcp-method", "POST", MODERN, True),
        ("mcp_method", "POST", MODERN, False),
        ("mcp-param-region", "POST", MODERN, True),
        ("last-event-id", "GET", LEGACY, True),
        ("last-event-id", "POST", LEGACY, False),
        ("last_event-id", "GET", LEGACY, False),
        ("last-event-ids", "POST", LEGACY, True),
        ("x-authsvc-assertion", "GET", MODERN, False),
        ("x_authsvc_assertion", "POST", LEGACY, False),
        ("x-authsvc", "POST", LEGACY, True),
        ("x.authsvc.assertion", "POST", LEGACY, False),
        ("x-authsvc~credentials", "POST", LEGACY, False),
        ("mcp.session.id", "POST", LEGACY, False),
        ("mcp!method", "POST", MODERN, False),
        ("mcp-param-a.b", "POST", MODERN, True),
        ("mcp-param-a_b", "POST", MODERN, False),
        ("mcp.param-a", "POST", MODERN, False),
        ("last.event.id", "GET", LEGACY, False),
        ("content.type", "POST", LEGACY, False),
        ("x.http.method.override", "POST", LEGACY, False),
        ("x-original-url", "POST", LEGACY, False),
        ("x_original_url", "GET", LEGACY, False),
        ("x-rewrite-url", "POST", MODERN, False),
        ("x-original-uri", "POST", LEGACY, True),
    ],
)
def test_which_headers_a_server_gets(name: str, method: str, version: str, *, passes: bool) -> None:
    header = (name.encode(), b"1")
    body = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    headers = Headers([header, *body])
    alone = [header] if passes else []
    assert forwarded(headers, method=method, version=version) == alone


@pytest.mark.parametrize("name", [b"x-authsvc-assertion", b"x_authsvc-x", b"x.authsvc.x"])
def test_what_authsvc_tells_is_taken_from_nobody_else(name: bytes) -> None:
    others: RawHeaders = [(b"x-authsvc", b"1"), (b"authorization", b"2")]
    assert without_ours(others) is others
    assert without_ours([*others, (name, b"3")]) == others
