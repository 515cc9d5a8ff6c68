"""One reading of hosts and URLs, for arguments and settings alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from authsvc.common.formats import spelled_resource
from authsvc.net.addresses import is_host, is_host_and_port, is_listening_address
from authsvc.net.urls import (
    base_fault,
    canonical_resource,
    endpoint_fault,
    issuer_fault,
    read,
    resource_fault,
)
from tests.support.spellings import DIFFERENT, SAME

HOSTS = [
    *("mcp.example", "localhost", "auth_svc", "a", "1a.example", "xn--bcher-kva.example"),
    *("authsvc.internal.", "a-b.example", "127.0.0.1", "[::1]", "[2001:db8::7]"),
    *("[::ffff:192.0.2.1]", "a" * 63 + ".example", "authsvc.1", "1.authsvc.2.", "1x.2.3.4"),
]
NO_HOSTS = [
    *("", ".", "...", "a..b", ".a", "-a", "a-.example", "a,b", 'a"b', "a b", "a%62"),
    *("b\u00fccher.example", "\uff11\uff12\uff17.0.0.1", "loca\u017f", "a\n", "a\\b", "a*", "*"),
    *("::1", "[::1", "[]", "[127.0.0.1]", "[::1%eth0]", "[g::1]", "1.2.3", "1.2.3.999", "127.1"),
    *(
        "0x7f000001",
        "2130706433",
        "0x7f.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "a" * 64 + ".example",
        "a." * 127 + "b",
    ),
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host(host: str) -> None:
    assert is_host(host)
    assert is_host_and_port(f"{host}:50051")
    assert read(f"https://{host}:8443/mcp").host == host


@pytest.mark.parametrize("host", NO_HOSTS)
def test_no_host(host: str) -> None:
    assert not is_host(host)
    if "%eth0" not in host:
        assert not is_host_and_port(f"{host}:50051")
    with pytest.raises(ValueError, match=r"^(has|is) "):
        read(f"https://{host}/mcp")


@pytest.mark.parametrize(
    ("address", "can_be_called", "can_be_listened_on"),
    [
        *(("a:1", True, True), ("a:65535", True, True), ("[fe80::1%eth0]:1", True, True)),
        *(("a:0", False, True), ("a:65536", False, False), ("a:", False, False)),
        *(("a", False, False), (":1", False, False), ("a:x", False, False)),
        *(("a:\u0661", False, False), ("a:1\n", False, False), ("::1:1", False, False)),
        *(("[fe80::1%e h]:1", False, False), ("a:-1", False, False), ("a:00", False, False)),
    ],
)
def test_an_address(address: str, *, can_be_called: bool, can_be_listened_on: bool) -> None:
    assert is_host_and_port(address) is can_be_called
    assert is_listening_address(address) is can_be_listened_on


BROKEN = [
    ("https://idp.example/\n", "a control character in it, at character 21"),
    ("https://idp.example\t", "a control character"),
    ("\x00https://idp.example", "a control character in it, at character 1"),
    ("https://idp.example/\x7f", "a control character"),
    (" https://idp.example", "a space in it, at character 1"),
    ("https://a b", "a space in it, at character 10"),
    ("https://idp.example/a b", "a space"),
    ("https://idp.example/\u00e9", "not ASCII at character 21: write"),
    ("https://b\u00fccher.example", "not ASCII at character 10: write a host in punycode"),
    ("https://idp.example/\ud800", "not ASCII"),
    ("https://idp.example\\@evil.example", "a character in it that no URI has"),
    ('https://h"x/mcp', "a character in it that no URI has"),
    ("https://idp.example/{x}", "a character in it that no URI has"),
    ("https://idp.example/%", "a % without two hexadecimal digits"),
    ("https://idp.example/%zz", "a % without two hexadecimal digits"),
    ("idp.example", "is not scheme://host"),
    ("https:/idp.example", "is not scheme://host"),
    ("//idp.example", "is not scheme://host"),
    ("", "is not scheme://host"),
    ("https://[::1]x/mcp", "has no host"),
    ("https://", "has no host"),
    ("https:///mcp", "has no host"),
    ("https://:443/mcp", "has no host"),
    ("https://.../mcp", "has no host, or one that is neither"),
    ("https://h,e.example/mcp", "has no host, or one that is neither"),
    ("https://h.example:0/mcp", "has a port"),
    ("https://h.example:65536/mcp", "has a port"),
    ("https://h.example:x/mcp", "has a port"),
    ("https://h.example:1:2/mcp", "has a port"),
    ("https://h.example/../mcp", "has a segment . or .."),
    ("https://h.example/mcp/.", "has a segment . or .."),
    ("https://h.example/%2e%2E/mcp", "has a segment . or .."),
    ("https://h.example/.%2e", "has a segment . or .."),
    ("https://h.example/[x]", "has a bracket"),
]


@pytest.mark.parametrize(("url", "fault"), BROKEN)
@pytest.mark.parametrize("fault_of", [resource_fault, endpoint_fault, issuer_fault, base_fault])
def test_what_is_no_url(fault_of: Callable[[str], str], url: str, fault: str) -> None:
    assert fault in fault_of(url)


@pytest.mark.parametrize(
    ("url", "refused_by"),
    [
        ("https://mcp.example", ""),
        ("https://mcp.example/", ""),
        ("https://mcp.example:8443/team/mcp", ""),
        ("https://[2001:db8::7]:8443/mcp", ""),
        ("http://localhost:8000/mcp", ""),
        ("http://127.0.0.1:8000/mcp", ""),
        ("http://[::1]:8000/mcp", ""),
        ("https://auth_svc:8000/a;b=(c),d/~e/%C3%A9", ""),
        ("https://mcp.example//mcp", ""),
        ("https://mcp.example/.well-known/...", ""),
        ("http://auth_svc:8000", "endpoint issuer"),
        ("http://localhost.example", "endpoint issuer"),
        ("https://mcp.example/mcp?tenant=1", "issuer base"),
        ("https://mcp.example/mcp#x", "resource endpoint issuer base"),
        ("https://mcp.example/mcp#", "resource endpoint issuer base"),
        ("https://u@mcp.example/mcp", "resource endpoint issuer base"),
        ("https://u:p@mcp.example/mcp", "resource endpoint issuer base"),
        ("https://MCP.example", ""),
        ("HTTPS://mcp.example", ""),
        ("https://mcp.example:443/mcp", ""),
        ("https://mcp.example:08443/mcp", ""),
        ("https://mcp.example:/mcp", ""),
        ("https://mcp.example/a%2Fb", "resource"),
        ("https://mcp.example/a%5cb", "resource"),
        ("ftp://mcp.example/mcp", "resource endpoint issuer base"),
        ("redis://mcp.example/0", "resource endpoint issuer base"),
    ],
)
def test_which_parts_a_url_may_have(url: str, refused_by: str) -> None:
    faults = {
        "resource": resource_fault(url),
        "endpoint": endpoint_fault(url),
        "issuer": issuer_fault(url),
        "base": base_fault(url),
    }
    assert [name for name, fault in faults.items() if fault] == refused_by.split()


@pytest.mark.parametrize(
    "url", ["https://u:hush^@h.example", "https://u:hush%@h.example", "https://u:hu sh@h.example"]
)
def test_no_message_quotes_a_url(url: str) -> None:
    fault = endpoint_fault(url)
    assert fault
    assert not {"hush", "^", "hu"} & set(fault.split())


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equivalent_resources(one: str, other: str) -> None:
    assert spelled_resource(one) == spelled_resource(other)
    assert spelled_resource(spelled_resource(one)) == spelled_resource(one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_resources(one: str, other: str) -> None:
    assert spelled_resource(one) != spelled_resource(other)


@pytest.mark.parametrize("text", ["api://x", "", "https://h/mcp#x", f"https://h/{'x' * 2_040}"])
def test_what_is_no_resource_has_no_canonical_spelling(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(has|is) "):
        canonical_resource(text)
