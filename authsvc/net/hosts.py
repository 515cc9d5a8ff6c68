"""Hosts and origins that requests name, and which of them are allowed.

Equivalent ones are equal (RFC 9110 section 4.2.3): a default port is one that is not written, and
case does not count. A name with a dot at its end is another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from authsvc.net.addresses import canonical_host, is_host, is_port
from authsvc.net.urls import DEFAULT_PORTS

NULL = "null"
"""The origin of a page that has none, such as a file or a sandboxed frame (RFC 6454 section 7)."""

EVERY = "*"
"""Stands for every host."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PORT = re.compile(r":[0-9]+$")
_OPAQUE = re.compile(r"[A-Za-z0-9._~-]*")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?")
_PATTERN = re.compile(r"(\*\.)?(\[[^\]]*\]|[^:*]+)(?::([0-9]+|\*))?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and a port, as a request names them.

    Attributes:
        host: in its one spelling.
        port: None for the default one.
    """

    host: str
    port: int | None


def read_authority(text: str, scheme: str) -> Authority | None:
    """The host and port of a Host header (RFC 9110 section 7.2); None where it has none.

    Args:
        text: ``host`` or ``host:port``; the port may be empty.
        scheme: whose default port is left out.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None or not is_host(found[1]) or (found[2] and not is_port(found[2])):
        return None
    number = int(found[2] or 0)
    is_default = number in {0, DEFAULT_PORTS.get(scheme)}
    return Authority(canonical_host(found[1]), None if is_default else number)


def read_origin(text: str) -> tuple[str, Authority] | None:
    """The scheme, host and port of an origin as browsers write it; None where it is none.

    A scheme of an app, such as ``vscode-webview``, has names of its own for hosts (RFC 6454 section
    6.2).
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme) or rest.endswith(":"):
        return None
    if (authority := read_authority(rest, scheme)) is not None:
        return scheme, authority
    if scheme in DEFAULT_PORTS or not _OPAQUE.fullmatch(rest):
        return None
    return scheme, Authority(rest.lower(), None)


@dataclass(frozen=True, slots=True)
class HostPattern:
    """Hosts that are allowed.

    Attributes:
        host: in its one spelling; begins with ``*.`` if it stands for all names below.
        port: None for the default one.
        any_port: whether every port is meant.
    """

    host: str
    port: int | None
    any_port: bool

    @classmethod
    def read(cls, text: str, scheme: str = "") -> Self:
        """Of ``name``, ``name:port``, ``name:*``, and ``*.name`` with the same.

        Args:
            text: in lower case.
            scheme: whose default port is left out.

        Raises:
            ValueError: it is no such text; the message is empty.
        """
        found = _PATTERN.fullmatch(text)
        if found is None or text != text.lower():
            raise ValueError
        below, host, port = found[1] or "", found[2], found[3] or ""
        any_port = port == "*"
        authority = read_authority(host if any_port else f"{host}:{port}", scheme)
        if authority is None or (below and not _is_name(host)):
            raise ValueError
        return cls(below + authority.host, authority.port, any_port)


class AllowedHosts:
    """Hosts that are allowed.

    Args:
        allowed: each is ``*``, which stands for every host, or as of ``HostPattern.read``.
        scheme: whose default port is left out.
    """

    def __init__(self, allowed: Iterable[str], *, scheme: str) -> None:
        texts = set(allowed)
        self.scheme = scheme
        self._all = EVERY in texts
        self._patterns = frozenset(HostPattern.read(it, scheme) for it in texts - {EVERY})
        # Nearly every request names one of these, which need no parsing.
        hosts = (it.host for it in self._patterns if it.port is None)
        self._written = frozenset(host for host in hosts if not host.startswith("*"))

    def allow(self, text: str) -> bool:
        """Whether a value of Host is allowed; never one that is no host."""
        if text in self._written:
            return True
        authority = read_authority(text, self.scheme)
        if authority is None:
            return False
        names = (authority.host, *(f"*.{domain}" for domain in _domains(authority.host)))
        return self._all or any(
            pattern in self._patterns
            for name in names
            for pattern in _patterns_of(Authority(name, authority.port))
        )


class AllowedOrigins:
    """Origins that are allowed.

    Args:
        allowed: each is ``null``, or ``scheme://name`` with an optional port, or ``:*`` for any.

    Raises:
        ValueError: one is none of these.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        texts = set(allowed)
        self._null = NULL in texts
        self._patterns = frozenset(map(_origin_pattern, texts - {NULL}))

    def allow(self, text: str) -> bool:
        """Whether a value of Origin is allowed."""
        if text == NULL:
            return self._null
        origin = read_origin(text)
        if origin is None:
            return False
        scheme, authority = origin
        return any((scheme, pattern) in self._patterns for pattern in _patterns_of(authority))


def _origin_pattern(text: str) -> tuple[str, HostPattern]:
    name = text.removesuffix(":*")
    any_port = name != text
    origin = read_origin(name)
    if origin is None or text != text.lower() or (any_port and _PORT.search(name)):
        raise ValueError
    scheme, authority = origin
    return scheme, HostPattern(authority.host, authority.port, any_port)


def _patterns_of(authority: Authority) -> tuple[HostPattern, HostPattern]:
    """The patterns that would allow this host, wildcards not among them."""
    return (
        HostPattern(authority.host, authority.port, any_port=False),
        HostPattern(authority.host, None, any_port=True),
    )


def _domains(host: str) -> list[str]:
    """The domains that a name is in, itself not among them; none of an address."""
    labels = host.split(".") if _is_name(host) else []
    return [".".join(labels[place:]) for place in range(1, len(labels))]


def _is_name(host: str) -> bool:
    return not host.startswith("[") and not host.rpartition(".")[2].isdecimal()
