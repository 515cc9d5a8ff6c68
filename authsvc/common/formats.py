"""Formats of strings in settings and arguments: scopes, resources, URLs, hosts, addresses.

Each ``check_...`` returns the string or raises ``ValueError``. The message begins with the rule
("is a ..."), so that it can follow the name of a setting or an argument, and never shows a user, a
password or a query of a URL.
"""

from __future__ import annotations

import re

from authsvc.net import urls
from authsvc.net.addresses import is_host_and_port, is_listening_address
from authsvc.net.hosts import AllowedHosts, AllowedOrigins
from authsvc.net.peers import Peers

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

ONE_LINE = "is one line of text, with neither control characters nor white space around it"
"""The rule of ``check_line``."""


def check_scope(scope: str) -> str:
    """A scope (RFC 6749 section 3.3).

    Raises:
        ValueError: no token can have it.
    """
    if not _SCOPE.fullmatch(scope):
        raise ValueError(
            "is a scope: visible ASCII without spaces, quotation marks and backslashes. Give "
            "several scopes one by one"
        )
    return scope


def is_token_digest(text: str) -> bool:
    """Whether a file states the digest of a service token, rightly or not, in place of the token.

    Such a file is for the service that verifies; a caller cannot present what it holds.
    """
    return text[:7].lower() == "sha256:"


def check_line(text: str) -> str:
    """A string for comparisons.

    Raises:
        ValueError: it holds a character that is not printable, or begins or ends with white space;
            the message names no argument.
    """
    if not text.isprintable() or text != text.strip():
        raise ValueError(ONE_LINE)
    return text


def check_resource(text: str) -> str:
    """The URI of an MCP server, in its canonical spelling; see ``urls.canonical_resource``.

    A default port and a path of ``/`` alone may be written. Capitals in the scheme and the host may
    not: tokens name the resource as it is shown to clients.

    Raises:
        ValueError: it is no such URI.
    """
    rule = (
        "is a canonical URI like https://mcp.example.com/mcp: absolute, http or https, "
        "lower-case host, no fragment"
    )
    if "@" in text:
        raise ValueError(f"{rule}, and no user or password")
    fault = urls.resource_fault(text)
    if not fault and not _has_capitals(urls.read(text)):
        return urls.canonical_resource(text)
    if mended := _mended(text):
        raise ValueError(f"{rule}; write {mended!r}")
    return _without_fault(text, fault, rule)


def _has_capitals(url: urls.Url) -> bool:
    return url.scheme + url.host != (url.scheme + url.host).lower()


def _mended(text: str) -> str:
    """A resource's canonical spelling, as it may be shown; empty where it has none."""
    try:
        url = urls.read(text)
    except ValueError:
        return ""
    return "" if urls.resource_fault(url.canonical()) else url.shown()


def spelled_resource(text: str) -> str:
    """The canonical spelling of a resource; any other text as it is."""
    return text if urls.resource_fault(text) else urls.canonical_resource(text)


def check_issuer(url: str) -> str:
    """The URL of an authorization server.

    Raises:
        ValueError: it is not one.
    """
    rule = (
        "is an issuer's URL like https://auth.example.com: https, or http on loopback, with "
        "neither query nor fragment"
    )
    return _without_fault(url, urls.issuer_fault(url), rule)


def check_endpoint(url: str) -> str:
    """A URL that keys are fetched from, or secrets sent to.

    Raises:
        ValueError: it is not one.
    """
    rule = (
        "is a URL like https://auth.example.com/token: https, or http on loopback, without "
        "user and fragment"
    )
    return _without_fault(url, urls.endpoint_fault(url), rule)


def check_base_url(url: str) -> str:
    """Where an HTTP API is.

    Raises:
        ValueError: it is not one.
    """
    rule = "is a URL like https://s3.example.com: http or https, without user, query and fragment"
    return _without_fault(url, urls.base_fault(url), rule)


def check_collector(url: str) -> str:
    """Where a collector of traces is: ``check_base_url``, without a path.

    Raises:
        ValueError: it is not one.
    """
    fault = urls.base_fault(url) or ("has a path" if urls.read(url).path else "")
    rule = (
        "is a URL like http://127.0.0.1:4317: http or https, without user, path, query and fragment"
    )
    return _without_fault(url, fault, rule)


def check_uri(uri: str) -> str:
    """An absolute URI of any scheme, such as a URN (RFC 3986 section 4.3).

    Raises:
        ValueError: it is not one.
    """
    fault = urls.character_fault(uri)
    if not fault and (not _SCHEME.match(uri) or "#" in uri):
        fault = "has no scheme, or a fragment"
    rule = "is a URI like https://api.example.com: absolute, without a fragment"
    return _without_fault(uri, fault, rule)


def check_host(host: str) -> str:
    """Values of Host that are allowed; see ``hosts.AllowedHosts``.

    Raises:
        ValueError: it is not one.
    """
    try:
        AllowedHosts((host,), scheme="")
    except ValueError:
        raise ValueError(
            "is a host in lower case like mcp.example.com or *.example.com, with :port or :*, or * "
            "alone"
        ) from None
    return host


def check_origin(origin: str) -> str:
    """Values of Origin that are allowed; see ``hosts.AllowedOrigins``.

    Raises:
        ValueError: it is not one.
    """
    try:
        AllowedOrigins((origin,))
    except ValueError:
        raise ValueError(
            "is an origin in lower case like https://app.example.com or app://name, with :port or "
            ":*, no path; or null"
        ) from None
    return origin


def check_peer(peer: str) -> str:
    """An address, a network, or ``unix``; see ``peers.Peers``.

    Raises:
        ValueError: it is none.
    """
    try:
        Peers((peer,))
    except ValueError:
        raise ValueError(
            "is an IP address like 10.0.0.7, a network like 10.0.0.0/8 with no bit set beyond its "
            "prefix, or unix"
        ) from None
    return peer


def check_node(address: str) -> str:
    """``host:port`` of another server.

    Raises:
        ValueError: it is not one.
    """
    if not is_host_and_port(address):
        raise ValueError(
            "is a host and a port like valkey-0:6379, the port from 1 to 65535, an IPv6 address in "
            "brackets"
        )
    return address


def check_listening(address: str) -> str:
    """``host:port`` to listen on; port 0 is any free one.

    Raises:
        ValueError: it is not one.
    """
    if not is_listening_address(address):
        raise ValueError(
            "is an address like 127.0.0.1:8000, the port from 0 to 65535, an IPv6 address in "
            "brackets"
        )
    return address


def _without_fault(text: str, fault: str, rule: str) -> str:
    if fault:
        raise ValueError(f"{rule}; this one {fault}")
    return text
