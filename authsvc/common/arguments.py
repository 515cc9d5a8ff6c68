"""Arguments of what others construct, checked at once: an error names the argument and its remedy.

A string is a sequence, True is a number and a coroutine is true: what is only looked at later opens
or closes a door without a word. Of the wrong type is ``TypeError``, of the wrong value
``ValueError``.
"""

from __future__ import annotations

import inspect
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from authsvc.net import urls
from authsvc.net.addresses import is_host, is_host_and_port, is_listening_address

KindT = TypeVar("KindT")

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_NOT_IN_A_LINE = {"Cc", "Cs", "Zl", "Zp"}
_LINE = "is one line of text, with neither control characters nor white space around it"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


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
        raise TypeError(f"{name} is a sequence of strings: put the string in a list")
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
    return each(name, values, check_scope)


def check_scope(scope: str) -> str:
    """A scope (RFC 6749 section 3.3).

    Raises:
        ValueError: no token could hold it; the message says what is, and names no argument.
    """
    if not _SCOPE.fullmatch(scope):
        raise ValueError(
            "is a scope: visible ASCII without spaces, quotation marks and backslashes. Give "
            "several scopes one by one"
        )
    return scope


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


def line(name: str, value: object) -> str:
    """A string for people: it may hold emoji and no-break spaces, which ``check_line`` refuses.

    Raises:
        TypeError: it is no string.
        ValueError: it holds a control character, a line end or half a surrogate pair, or begins or
            ends with white space.
    """
    text = instance_of(name, value, str)
    if text != text.strip() or not _NOT_IN_A_LINE.isdisjoint(map(unicodedata.category, text)):
        raise ValueError(f"{name} {_LINE}")
    return text


def check_line(text: str) -> str:
    """A string for comparisons.

    Raises:
        ValueError: it holds a character that is not printable, or begins or ends with white space;
            the message names no argument.
    """
    if not text.isprintable() or text != text.strip():
        raise ValueError(_LINE)
    return text


def path(name: str, value: object) -> Path:
    """The path of a file.

    Raises:
        TypeError: it is no ``Path``.
        ValueError: no file can have it.
    """
    found = instance_of(name, value, Path)
    if "\0" in str(found):
        raise ValueError(f"{name} has a NUL in it, which no file's path has")
    return found


def is_resource(text: str) -> bool:
    """Whether it is a canonical resource URI; see ``urls.resource_fault``."""
    return not urls.resource_fault(text)


def check_resource(text: str) -> str:
    """The canonical URI of an MCP server; see ``urls.resource_fault``.

    Raises:
        ValueError: it is not canonical; the message says what is, and names no argument.
    """
    if not (fault := urls.resource_fault(text)):
        return text
    rule = (
        "is a canonical URI like https://mcp.example.com/mcp: absolute, http or https, "
        "lower-case host, no fragment, no default port"
    )
    if "@" in text:
        raise ValueError(f"{rule}, and no user or password")
    mended = _mended(text)
    raise ValueError(f"{rule}; {f'write {mended!r}' if mended else _this(fault)}")


def _mended(text: str) -> str:
    """The canonical spelling of a resource, as it may be shown; empty where it has none."""
    try:
        url = urls.read(text)
    except ValueError:
        return ""
    return url.shown() if is_resource(url.canonical()) else ""


def resource(name: str, value: object) -> str:
    """The canonical URI of an MCP server; see ``urls.resource_fault``.

    Raises:
        TypeError: it is no string.
        ValueError: it is not canonical.
    """
    text = instance_of(name, value, str)
    try:
        return check_resource(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _this(fault: str) -> str:
    return f"this one {fault}"


def check_issuer(url: str) -> str:
    """The URL of an authorization server.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    if fault := urls.issuer_fault(url):
        raise ValueError(
            "is an issuer's URL like https://auth.example.com: https, or http on loopback, with "
            f"neither query nor fragment; {_this(fault)}"
        )
    return url


def check_endpoint(url: str) -> str:
    """A URL that keys are fetched from, or secrets sent to.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    if fault := urls.endpoint_fault(url):
        raise ValueError(
            "is a URL like https://auth.example.com/token: https, or http on loopback, without "
            f"user and fragment; {_this(fault)}"
        )
    return url


def check_base_url(url: str) -> str:
    """Where an HTTP API is.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    if fault := urls.base_fault(url):
        raise ValueError(
            "is a URL like https://s3.example.com: http or https, without user, query and "
            f"fragment; {_this(fault)}"
        )
    return url


def check_collector(url: str) -> str:
    """Where a collector of traces is: ``check_base_url``, without a path.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    fault = urls.base_fault(url) or ("has a path" if urls.read(url).path else "")
    if fault:
        raise ValueError(
            "is a URL like http://127.0.0.1:4317: http or https, without user, path, query and "
            f"fragment; {_this(fault)}"
        )
    return url


def check_uri(uri: str) -> str:
    """An absolute URI of any scheme, such as a URN (RFC 3986 section 4.3).

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    fault = urls.character_fault(uri)
    if not fault and (not _SCHEME.match(uri) or "#" in uri):
        fault = "has no scheme, or a fragment"
    if fault:
        raise ValueError(
            f"is a URI like https://api.example.com: absolute, without a fragment; {_this(fault)}"
        )
    return uri


def check_host(host: str) -> str:
    """A value of Host, ``name``, ``name:port`` or ``name:*``.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    if not _is_host_of_a_request(host):
        raise ValueError("is a host in lower case like mcp.example.com, with :port or :*")
    return host


def _is_host_of_a_request(text: str) -> bool:
    host = text.removesuffix(":*")
    return text == text.lower() and "%" not in text and (is_host(host) or is_host_and_port(text))


def check_origin(origin: str) -> str:
    """A value of Origin, ``scheme://name`` with an optional port or ``:*``.

    Raises:
        ValueError: it is none; the message says what is, and names no argument.
    """
    scheme, separator, host = origin.partition("://")
    if scheme not in {"http", "https"} or not separator or not _is_host_of_a_request(host):
        raise ValueError(
            "is an origin in lower case like https://app.example.com, with :port or :*, no path"
        )
    return origin


def check_node(address: str) -> str:
    """``host:port`` of another server.

    Raises:
        ValueError: it is not; the message says what is, and names no argument.
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
        ValueError: it is not; the message says what is, and names no argument.
    """
    if not is_listening_address(address):
        raise ValueError(
            "is an address like 127.0.0.1:8000, the port from 0 to 65535, an IPv6 address in "
            "brackets"
        )
    return address


def each(name: str, values: object, check: Callable[[str], str]) -> tuple[str, ...]:
    """Several strings, each of which passes ``check``.

    Raises:
        TypeError: as ``texts``.
        ValueError: one does not; the message has its place, and not its value: a URL's user and
            query may hold secrets.
    """
    found = texts(name, values)
    for place, value in enumerate(found):
        try:
            check(value)
        except ValueError as error:
            raise ValueError(f"{name}[{place}]: it is wrong: each {error}") from None
    return found
