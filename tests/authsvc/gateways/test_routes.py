"""Which resource a request is for, by host and path."""

from __future__ import annotations

import pytest

from authsvc.gateways.routes import Route, Routes

FILES = "https://mcp.example/files"
ROOT = "https://mcp.example"
DEEP = "https://mcp.example/files/deep"
PORT = "https://mcp.example:8443/files"
IPV6 = "http://[::1]:8080/mcp"
MOVED = "https://other.example/mcp"

ROUTES = Routes(
    [
        *(Route(resource) for resource in (FILES, ROOT, DEEP, PORT, IPV6)),
        Route(MOVED, hosts=("inner.example", "inner.example:8080"), path="/moved here"),
    ],
    adopt_sessions=False,
)


def resource_at(host: str, path: str) -> str:
    route = ROUTES.at(host, path)
    return route.resource if route else ""


@pytest.mark.parametrize(
    ("host", "path", "resource"),
    [
        ("mcp.example", "/files", FILES),
        ("mcp.example", "/files/", FILES),
        ("mcp.example", "/files/x", FILES),
        ("mcp.example:443", "/files", FILES),
        ("mcp.example:80", "/files", FILES),  # TLS ends in front of the gateway
        ("MCP.Example", "/files", FILES),
        ("mcp.example", "/f%69les", FILES),
        ("mcp.example", "/files/deep", DEEP),
        ("mcp.example", "/files/deeper", FILES),
        ("mcp.example", "/filesystem", ROOT),
        ("mcp.example", "/a;b", ROOT),
        ("mcp.example", "/A", ROOT),
        ("mcp.example", "/files/a;b", FILES),
        ("mcp.example:8443", "/FILES", ""),
        ("mcp.example", "/", ROOT),
        ("mcp.example:8443", "/files", PORT),
        ("mcp.example:8443", "/", ""),
        ("mcp.example:8444", "/files", ""),
        ("[0:0::1]:8080", "/mcp", IPV6),
        ("other.example", "/mcp", ""),
        ("inner.example", "/moved%20here", MOVED),
        ("inner.example:8080", "/moved%20here/x", MOVED),
        ("inner.example", "/mcp", ""),
        ("sub.mcp.example", "/files", ""),
        ("mcp.example.", "/files", ""),
        ("mcp.example@evil.example", "/files", ""),
        ("", "/files", ""),
    ],
)
def test_the_resource_at_a_host_and_a_path(host: str, path: str, resource: str) -> None:
    assert resource_at(host, path) == resource


@pytest.mark.parametrize(
    "path",
    [
        *("/files/../x", "/files/./x", "/files/..", "/files/%2e%2e/x", "/files/..;a=b/x"),
        *("//files", "/files//x", "/files%2fx", "/files%5cx", "/files\\x", "/files%252e", "files"),
        "",
        # A server that ignores case, or cuts segments off, would serve the resource below.
        *("/FILES", "/Files/x", "/files;a=b", "/files;/x", "/files%3Fx", "/files%23", "/files%00"),
        *("/files%20", "/%20files/x", "/files/DEEP", "/files/deep;x", "/files/deep%20/x"),
    ],
)
def test_no_resource_is_at_a_path_that_can_be_read_in_several_ways(path: str) -> None:
    assert resource_at("mcp.example", path) == ""


@pytest.mark.parametrize(
    ("host", "path", "resource"),
    [
        ("mcp.example", "/files", FILES),
        ("mcp.example", "/files/", FILES),
        ("mcp.example", "/files/deep", DEEP),
        ("mcp.example", "/files/x", ""),
        ("mcp.example", "", ROOT),  # of several, the root's own
        ("mcp.example:8443", "", PORT),  # the only one there
        ("inner.example", "/mcp", MOVED),
        ("inner.example", "/moved%20here", ""),
        ("other.example", "/mcp", ""),
    ],
)
def test_metadata_is_at_the_path_that_belongs_to_the_resource(
    host: str, path: str, resource: str
) -> None:
    assert resource_at(host, f"/.well-known/oauth-protected-resource{path}") == resource


def test_the_roots_metadata_is_of_none_of_several_resources() -> None:
    routes = Routes([Route(FILES), Route(DEEP)], adopt_sessions=True)
    assert routes.at("mcp.example", "/.well-known/oauth-protected-resource") is None


def test_a_resource_that_the_gateway_names_needs_no_route() -> None:
    assert ROUTES.of(FILES) is ROUTES.at("mcp.example", "/files")
    assert ROUTES.of("https://new.example") == Route("https://new.example", adopt_sessions=False)
