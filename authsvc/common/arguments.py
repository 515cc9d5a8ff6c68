"""Checks of arguments of public classes and functions. Each error names the argument and a remedy.

They are checked at construction, since Python would accept a wrong one and decide wrongly later: a
string is a sequence, True is a number, a coroutine is true. A wrong type is a ``TypeError``, and a
wrong value a ``ValueError``.
"""

from __future__ import annotations

import inspect
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from authsvc.common.formats import ONE_LINE, check_resource, check_scope

KindT = TypeVar("KindT")

_NOT_IN_A_LINE = {"Cc", "Cs", "Zl", "Zp"}


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
    """Whether a function takes ``count`` positional arguments; True if it has no signature."""
    try:
        # Not of a wrapped function, which may take other arguments.
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
        TypeError: as ``function``; or it is a class, or its result would have to be awaited.
    """
    if isinstance(value, type):
        raise TypeError(f"{name} is a function, not the class {value.__name__}")
    function(name, value, parameters)
    called = value
    while isinstance(called, partial):
        called = called.func
    for candidate in (called, getattr(called, "__call__", None)):  # noqa: B004 - a method of it
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(f"{name} is a plain function: its result is not awaited (no async def)")


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
    """A string for people: it may have emoji and no-break spaces, which ``check_line`` rejects.

    Raises:
        TypeError: it is no string.
        ValueError: it holds a control character, a line end or half a surrogate pair, or begins or
            ends with white space.
    """
    text = instance_of(name, value, str)
    if text != text.strip() or not _NOT_IN_A_LINE.isdisjoint(map(unicodedata.category, text)):
        raise ValueError(f"{name} {ONE_LINE}")
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


def resource(name: str, value: object) -> str:
    """The URI of an MCP server, in its canonical spelling; see ``formats.check_resource``.

    Raises:
        TypeError: it is no string.
        ValueError: it is no such URI.
    """
    text = instance_of(name, value, str)
    try:
        return check_resource(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


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
