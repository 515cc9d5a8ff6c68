"""Which virtual host and which routes of an Envoy a request may take."""

from __future__ import annotations

import pytest

from authsvc.diagnosis.envoy.configuration import VirtualHost
from authsvc.diagnosis.envoy.fields import Fields
from authsvc.diagnosis.envoy.matching import host_for, is_conditional, is_listed, may_match


@pytest.mark.parametrize(
    ("authority", "domain"),
    [
        ("a.example.com", "a.example.com"),
        ("A.example.com", "a.example.com"),
        ("b.example.com", "*.example.com"),
        ("b.a.example.com", "*.a.example.com"),
        ("b.example.org", "b.*"),
        ("c.example.org", "*"),
        ("d.example.net:8443", "d.example.net:8443"),
        ("e.example.net:8443", "e.example.net"),
    ],
)
def test_the_closest_domain_is_taken(authority: str, domain: str) -> None:
    domains = (
        *("*", "*.example.com", "*.a.example.com", "a.example.com", "b.*"),
        *("d.example.net:*", "d.example.net:8443", "e.example.net"),
    )
    hosts = [VirtualHost((it,), ()) for it in domains]
    found = host_for(hosts, authority)
    assert found is not None
    assert found.domains == (domain,)


def test_a_host_that_none_serves() -> None:
    hosts = [VirtualHost(("*.example.com", "b.*"), ())]
    assert host_for(hosts, "a.example.org") is None
    assert host_for([], "a.example.org") is None


@pytest.mark.parametrize(
    ("match", "path", "expected"),
    [
        ({"prefix": "/m"}, "/mcp", True),
        ({"prefix": "/n"}, "/mcp", False),
        ({"path": "/mcp"}, "/mcp", True),
        ({"path": "/mc"}, "/mcp", False),
        ({"path_separated_prefix": "/mcp"}, "/mcp", True),
        ({"path_separated_prefix": "/mcp"}, "/mcp/x", True),
        ({"path_separated_prefix": "/mc"}, "/mcp", False),
        ({"pathSeparatedPrefix": "/mc"}, "/mcp", False),
        ({"path": "/Mcp", "caseSensitive": False}, "/mCp", True),
        ({"path": "/Mcp", "case_sensitive": True}, "/mcp", False),
        ({"safe_regex": {"regex": "/m.+"}}, "/mcp", True),
        ({"safe_regex": {"regex": "/m"}}, "/mcp", False),
        # What Python cannot tell may match.
        ({"safe_regex": {"regex": r"\\pN("}}, "/mcp", True),
        ({"safe_regex": {"regex": "(a+)+b"}}, "a" * 65, True),
        ({"path_match_policy": {}}, "/mcp", True),
    ],
)
def test_a_route_takes_a_path(match: dict[str, object], path: str, expected: bool) -> None:
    assert may_match(Fields(match), path) is expected


def test_a_route_with_conditions() -> None:
    assert not is_conditional(Fields({"prefix": "/", "caseSensitive": False}))
    assert not is_conditional(Fields({"safeRegex": {"regex": "."}}))
    assert is_conditional(Fields({"prefix": "/", "headers": []}))
    assert is_conditional(Fields({"prefix": "/", "queryParameters": []}))


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ({"exact": "mcp-session-id"}, True),
        ({"exact": "Mcp-Session-Id"}, False),
        ({"exact": "Mcp-Session-Id", "ignoreCase": True}, True),
        ({"prefix": "mcp-"}, True),
        ({"prefix": "MCP-", "ignore_case": True}, True),
        ({"prefix": "session"}, False),
        ({"suffix": "-id"}, True),
        ({"suffix": "mcp"}, False),
        ({"contains": "session"}, True),
        ({"contains": "token"}, False),
        ({"safe_regex": {"regex": "mcp-.*"}}, True),
        ({"safe_regex": {"regex": "mcp-"}}, False),
        ({}, False),
    ],
)
def test_a_header_is_listed(matcher: dict[str, object], expected: bool) -> None:
    assert is_listed("mcp-session-id", [Fields({"exact": "other"}), Fields(matcher)]) is expected
