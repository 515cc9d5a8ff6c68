"""URLs, read strictly (RFC 3986): what other parsers drop, or read differently, is rejected.

``urllib.parse.urlsplit`` drops line ends and tabs, and takes anything as a host. Which URLs are
equivalent is decided here alone: those with one canonical spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from authsvc.net.addresses import canonical_host, is_host, is_loopback, is_port

MAX_RESOURCE_LENGTH = 2_048
"""Characters of a resource."""

_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})*")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?"
    r"(?P<host>\[[^/?#\]]*\]|[^/?#:]*)(?::(?P<port>[^/?#]*))?"
    r"(?P<path>(?:/[^?#]*)?)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?"
)
_ENCODED_SEPARATOR = re.compile(r"%2f|%5c", re.IGNORECASE)

_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL as they are written; None for one that is not there.

    Attributes:
        scheme: what ends at ``://``.
        user: what ends at ``@``; may hold a password.
        host: an IPv6 address is in brackets.
        port: a number from 1 to 65535; may be empty.
        path: may be empty.
        query: what follows ``?``.
        fragment: what follows ``#``.
    """

    scheme: str
    user: str | None
    host: str
    port: str | None
    path: str
    query: str | None
    fragment: str | None

    @property
    def is_secure(self) -> bool:
        """Whether it is https, or http that does not leave this machine."""
        scheme = self.scheme.lower()
        return scheme == "https" or (scheme == "http" and is_loopback(self.host))

    def canonical(self) -> str:
        """The one spelling of all URLs that are equivalent to it, without user and fragment.

        Scheme and host are in lower case, and so is no percent-encoded octet (RFC 3986 section
        6.2.2.1); no unreserved character is encoded (section 6.2.2.2); a port that is the scheme's
        own and a path of ``/`` alone are left out (section 6.2.3, RFC 9110 section 4.2.3). A slash
        after a longer path and the order of a query stay: they may tell two resources apart.
        """
        scheme = self.scheme.lower()
        number = int(self.port or 0)
        port = f":{number}" if number not in {0, DEFAULT_PORTS.get(scheme)} else ""
        path = "" if self.path == "/" else _encoded_once(self.path)
        query = "" if self.query is None else f"?{_encoded_once(self.query)}"
        return f"{scheme}://{canonical_host(self.host)}{port}{path}{query}"

    def shown(self) -> str:
        """Its canonical spelling for a message, without its query, which may hold a secret."""
        query = "" if self.query is None else "?..."
        return replace(self, query=None).canonical() + query


def shown_url(text: str) -> str:
    """A URL for a message, without its query, which may hold a secret."""
    before, query, _ = text.partition("?")
    return f"{before}?..." if query else before


def read(text: str) -> Url:
    """The parts of ``scheme://[user@]host[:port][/path][?query][#fragment]``.

    Raises:
        ValueError: it is no such URL. The message continues a sentence that begins with "it", and
            quotes nothing of the text.
    """
    if fault := character_fault(text):
        raise ValueError(fault)
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("is not scheme://host, with a port and a path where there are any")
    url = Url(**found.groupdict())
    if not is_host(url.host):
        raise ValueError("has no host, or one that is neither a name nor an IP address")
    if url.port and not is_port(url.port):
        raise ValueError("has a port that is not a number from 1 to 65535")
    if "[" in url.path or "]" in url.path:
        raise ValueError("has a bracket in its path")
    if {".", ".."} & {unquote(segment) for segment in url.path.split("/")}:
        raise ValueError("has a segment . or .. in its path")
    return url


def character_fault(text: str) -> str:
    """Where a text has a character that no URI has (RFC 3986 section 2); empty where it has none.

    The message does not quote the character: it may be a part of a password.
    """
    found = _CHARACTERS.match(text)
    at = found.end() if found else 0
    if at == len(text):
        return ""
    where = f"at character {at + 1}"
    if not text[at].isascii():
        return f"is not ASCII {where}: write a host in punycode, and a path with percent signs"
    if text[at] == "%":
        return f"has a % without two hexadecimal digits after it, {where}"
    if text[at] == " ":
        return f"has a space in it, {where}"
    if not text[at].isprintable():
        return f"has a control character in it, {where}"
    return f"has a character in it that no URI has, {where}"


def resource_fault(text: str) -> str:
    """Why a text is no URI of a resource, in any spelling; empty where it is one.

    It is absolute, http or https, without fragment (RFC 8707 section 2), user, dot segments and
    encoded separators in the path, and has at most ``MAX_RESOURCE_LENGTH`` characters.
    """
    if len(text) > MAX_RESOURCE_LENGTH:
        return f"has more than {MAX_RESOURCE_LENGTH} characters"
    try:
        url = read(text)
    except ValueError as error:
        return str(error)
    if url.scheme.lower() not in DEFAULT_PORTS:
        return "is neither http nor https"
    if url.user is not None:
        return "has a user or a password in it"
    if _ENCODED_SEPARATOR.search(url.path):
        return "has an encoded slash or backslash in its path"
    return "has a fragment" if url.fragment is not None else ""


def canonical_resource(text: str) -> str:
    """The canonical spelling of a resource: keys and comparisons go by it; see ``Url.canonical``.

    Raises:
        ValueError: it is no URI of a resource; as of ``read``.
    """
    if fault := resource_fault(text):
        raise ValueError(fault)
    return read(text).canonical()


def endpoint_fault(text: str) -> str:
    """Why no secret may be sent to a URL, or fetched from it; empty where it may.

    It is https, or http on loopback, without user and fragment.
    """
    try:
        url = read(text)
    except ValueError as error:
        return str(error)
    if not url.is_secure:
        return "is neither https nor http on loopback"
    if url.user is not None:
        return "has a user or a password in it"
    return "has a fragment" if url.fragment is not None else ""


def issuer_fault(text: str) -> str:
    """Why a text does not identify an authorization server (RFC 8414 section 2); empty where it
    does: as ``endpoint_fault``, and without a query."""
    if fault := endpoint_fault(text):
        return fault
    return "has a query" if read(text).query is not None else ""


def base_fault(text: str) -> str:
    """Why a text is not where an HTTP API is; empty where it is.

    It is http or https, without user, query and fragment.
    """
    try:
        url = read(text)
    except ValueError as error:
        return str(error)
    if url.scheme.lower() not in DEFAULT_PORTS:
        return "is neither http nor https"
    if url.user is not None:
        return "has a user or a password in it"
    return "" if url.query is None and url.fragment is None else "has a query or a fragment"


def _encoded_once(text: str) -> str:
    """A path or query that encodes what it has to, and in capitals."""
    return _ENCODED.sub(_needed, text)


def _needed(octet: re.Match[str]) -> str:
    character = chr(int(octet[1], 16))
    return character if _UNRESERVED.fullmatch(character) else octet[0].upper()
