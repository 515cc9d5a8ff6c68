"""Hosts, ports and addresses, as settings and clients give them."""

from __future__ import annotations

import ipaddress
import re

MAX_PORT = 65_535

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_ZONE = re.compile(r"%[A-Za-z0-9._~-]+(?=\]$)")
_MAX_NAME = 253


def is_port(text: str) -> bool:
    """Whether a text is the number of a port that something can listen on."""
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= MAX_PORT


def is_host(text: str) -> bool:
    """Whether a text is a host: a name, an IPv4 address, or an IPv6 address in brackets.

    A name may have underscores, as containers' names do. One in another script is written in its
    ASCII form (RFC 5890 section 2.3.2.1).
    """
    if text.startswith("["):
        return text.endswith("]") and "%" not in text and _is_ip(text[1:-1], version=6)
    if not _NAME.fullmatch(text) or len(text) > _MAX_NAME:
        return False
    # Resolvers read a name of numbers alone, such as 127.1 or 2130706433, as an IPv4 address.
    numbers = all(map(_NUMBER.fullmatch, text.removesuffix(".").split(".")))
    return not numbers or _is_ip(text, version=4)


def canonical_host(host: str) -> str:
    """The one spelling of a host: in lower case, an IPv6 address as RFC 5952 writes it.

    A name with a dot at its end is another one: without it, a resolver may add a domain of its own.

    Args:
        host: for which ``is_host`` holds.
    """
    if not host.startswith("["):
        return host.lower()
    address = ipaddress.IPv6Address(host[1:-1])
    # ``compressed`` of such an address is not the same in all versions of Python.
    mapped = address.ipv4_mapped
    return f"[{address.compressed}]" if mapped is None else f"[::ffff:{mapped}]"


def is_host_and_port(text: str) -> bool:
    """Whether a text is ``host:port``, where an IPv6 address may name its zone."""
    host, _, port = text.rpartition(":")
    return is_host(_ZONE.sub("", host)) and is_port(port)


def is_listening_address(text: str) -> bool:
    """Whether a text is ``host:port`` to listen on, where port 0 is any free one."""
    host, _, port = text.rpartition(":")
    return is_host_and_port(f"{host}:1" if port == "0" else text)


def split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of ``host:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def with_port(address: str, port: int) -> str:
    """``host:port`` with another port."""
    return f"{address.rpartition(':')[0]}:{port}"


def from_here(address: str) -> str:
    """Where a program on this machine reaches a server that listens on ``host:port`` or
    ``unix:/path``."""
    host, _, port = address.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - not listened on
    return address if address.startswith("unix:") else f"{local.get(host, host)}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host as it is written, with or without brackets, is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(address: str) -> bool:
    """Whether an address, ``host:port`` or ``unix:/path``, is one of this machine alone."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0])


def is_taken(address: str, by: str) -> bool:
    """Whether a program that listens on ``by`` cannot listen on ``address``; port 0 is a free one.

    Args:
        address: ``host:port``.
        by: ``host:port``, or ``unix:/path``.
    """
    return not by.startswith("unix:") and split(address) == split(by) and split(by)[1] != 0


def _is_ip(text: str, *, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
