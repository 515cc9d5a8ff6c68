"""Arguments of what others construct, checked at once: an error names the argument and its remedy.

A string is a sequence, True is a number and a coroutine is true: what is only looked at later opens
or closes a door without a word. Of the wrong type is ``TypeError``, of the wrong value
``ValueError``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

from authsvc.addresses import is_local, is_port

KindT = TypeVar("KindT")

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:([0-9]+|\*))?")

_DEFAULT_PORTS = {"http": 80, "https": 443}


def instance_of(name: str, value: object, kind: type[KindT]) -> KindT:
    """``value``, which is a ``kind``.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is of type {kind.__name__}, not {type(value).__name__}")
    return value


def mapping(name: str, value: object) -> None:
    """
    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, not {type(value).__name__}")


def function(name: str, value: object, parameters: Sequence[str]) -> None:
    """
    Raises:
        TypeError: it cannot be called, or not with so many arguments.
    """
    if not callable(value):
        raise TypeError(f"{name} is a function, not {type(value).__name__}")
    if not can_be_called(value, len(parameters)):
        shown = getattr(value, "__name__", type(value).__name__)
        raise TypeError(f"{name} is called as {shown}({', '.join(parameters)}), which it forbids")


def can_be_called(value: Callable[..., object], count: int) -> bool:
    """Whether a function takes so many arguments by position; one that does not tell may."""
    try:
        # Of what is called itself: what it wraps may take other arguments.
        signature = inspect.signature(value, follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def plain_function(name: str, value: object, parameters: Sequence[str]) -> None:
    """
    Raises:
        TypeError: as ``function``; or it is a class, or its answer would have to be awaited.
    """
    if isinstance(value, type):
        raise TypeError(f"{name} is a function, not the class {value.__name__}")
    function(name, value, parameters)
    called = value
    while isinstance(called, partial):
        called = called.func
    for candidate in (called, getattr(called, "__call__", None)):  # noqa: B004 - a method of it
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(f"{name} is a plain function: its answer is not awaited (no async def)")


def texts(name: str, values: object) -> tuple[str, ...]:
    """Several strings.

    Raises:
        TypeError: it is one string, no collection, or holds something else.
        ValueError: one of them is empty.
    """
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} is a sequence of strings: write [{values!r}], not {values!r}")
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} is a sequence of strings, not {type(values).__name__}")
    found = tuple(values)
    for value in found:
        instance_of(f"each of {name}", value, str)
        if not value:
            raise ValueError(f"{name} holds an empty string: leave it out")
    return found


def scopes(name: str, values: object) -> tuple[str, ...]:
    """Several scopes (RFC 6749 section 3.3).

    Raises:
        TypeError: as ``texts``.
        ValueError: no token could hold one of them.
    """
    found = texts(name, values)
    for scope in found:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(
                f"{name}: {scope!r} is no scope: visible ASCII without spaces, quotation marks and "
                "backslashes. Give several scopes one by one"
            )
    return found


def positive_number(name: str, value: object) -> float:
    """A positive, finite number.

    Raises:
        TypeError: it is no number.
        ValueError: it is not positive, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is a finite number above 0, not {value}")
    return value


def positive_integer(name: str, value: object) -> int:
    """A positive integer.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not positive.
    """
    number = instance_of(name, value, int)
    if number < 1:
        raise ValueError(f"{name} is an integer above 0, not {number}")
    return number


MAX_RESOURCE_LENGTH = 2_048
"""Characters of a resource."""


def is_resource(text: str) -> bool:
    """Whether it is a canonical resource URI of at most ``MAX_RESOURCE_LENGTH`` characters.

    Canonical: absolute, http or https, no fragment (RFC 8707 section 2), no user, scheme and host
    in lower case (RFC 3986 section 6.2.2.1), no port that is the scheme's own (section 6.2.3),
    visible ASCII. One resource then has one spelling, and tokens name it by that one.
    """
    if len(text) > MAX_RESOURCE_LENGTH:
        return False  # before it is parsed: ``urlsplit`` has a cache of 128 URLs of any length
    try:
        parts = urlsplit(text)
        port_is_canonical = _has_canonical_port(parts)
    except ValueError:
        return False
    authority = f"{parts.scheme}://{parts.netloc}"
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and port_is_canonical
        and "@" not in parts.netloc
        and "#" not in text
        and text.startswith(authority)
        and authority == authority.lower()
        and all("!" <= character <= "~" for character in text)
    )


def _has_canonical_port(parts: SplitResult) -> bool:
    """
    Raises:
        ValueError: it is no port at all.
    """
    if parts.port is None:
        return not parts.netloc.endswith(":")
    is_default = parts.port == _DEFAULT_PORTS.get(parts.scheme)
    return parts.port > 0 and not is_default and parts.netloc.endswith(f":{parts.port}")


def resource_remedy(text: str) -> str:
    """How to mend what ``is_resource`` refuses."""
    rule = (
        "is a canonical URI like https://mcp.example.com/mcp: absolute, http or https, "
        "lower-case host, no fragment, no default port"
    )
    if "@" in text:
        return f"{rule}, and no user or password"
    if len(text) > MAX_RESOURCE_LENGTH:
        return f"{rule}, and of at most {MAX_RESOURCE_LENGTH} characters"
    mended = _mended(text)
    return f"{rule}; write {mended!r}, not {text!r}" if mended else f"{rule}; {text!r} is not"


def _mended(text: str) -> str:
    """The canonical spelling of a resource; empty where it has none."""
    try:
        parts = urlsplit(text)
        port = "" if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    except ValueError:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    spelled = urlunsplit(parts._replace(netloc=host + port, fragment=""))
    return spelled if is_resource(spelled) else ""


def resource(name: str, value: object) -> str:
    """The canonical URI of an MCP server; see ``is_resource``.

    Raises:
        TypeError: it is no string.
        ValueError: it is not canonical.
    """
    text = instance_of(name, value, str)
    if not is_resource(text):
        raise ValueError(f"{name} {resource_remedy(text)}")
    return text


def check_issuer(url: str) -> str:
    """The URL of an authorization server.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme == "https" or (
        parts.scheme == "http" and is_local(f"{parts.hostname}:0")
    )
    port = parts.netloc.rpartition("]")[2].partition(":")[2]
    if (
        not is_secure
        or not parts.hostname
        or not (is_port(port) or not port)
        or parts.query
        or parts.fragment
    ):
        raise ValueError(
            "is an issuer's URL like https://auth.example.com: https, or http on loopback, with "
            "neither query nor fragment"
        )
    return url


def check_host(host: str) -> str:
    """A value of Host, ``name``, ``name:port`` or ``name:*``.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    if not _is_host(host):
        raise ValueError("is a host in lower case like mcp.example.com, with :port or :*")
    return host


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    port = found[3] if found else None
    return found is not None and (port in {None, "*"} or is_port(port))


def check_origin(origin: str) -> str:
    """A value of Origin, ``scheme://name`` with an optional port or ``:*``.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    scheme, separator, host = origin.partition("://")
    if scheme not in {"http", "https"} or not separator or not _is_host(host):
        raise ValueError(
            "is an origin in lower case like https://app.example.com, with :port or :*, no path"
        )
    return origin


def each(name: str, values: object, check: Callable[[str], str]) -> tuple[str, ...]:
    """Several strings, each of which passes ``check``.

    Raises:
        TypeError: as ``texts``.
        ValueError: one does not.
    """
    found = texts(name, values)
    for value in found:
        try:
            check(value)
        except ValueError as error:
            raise ValueError(f"{name}: {value!r} is wrong: each {error}") from None
    return found
