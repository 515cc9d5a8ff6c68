"""Mappings and JSON values that cannot be changed: several requests hold the same ones.

They are dicts and lists still, so that ``json``, ``isinstance`` and ``==`` take them as such.
Copies are usual dicts and lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, cast

ValueT = TypeVar("ValueT")


def parsed(text: bytes) -> object:
    """A JSON text, parsed: its objects and arrays cannot be changed.

    Raises:
        ValueError: it is not JSON.
    """
    return _fixed(json.loads(text, object_hook=_object))


def read_only(members: Mapping[str, ValueT]) -> Mapping[str, ValueT]:
    """A copy of a mapping, in its order, that cannot be changed."""
    return cast("Mapping[str, ValueT]", _Object(members))


def _object(members: dict[str, object]) -> dict[str, object]:
    return _Object((name, _fixed(value)) for name, value in members.items())


def _fixed(value: object) -> object:
    # The objects in it are made already, by the parser.
    return _Array(map(_fixed, value)) if type(value) is list else value


def _reject(*_: object, **__: object) -> NoReturn:
    """
    Raises:
        TypeError: always.
    """
    raise TypeError("this is shared by requests and cannot be changed: change a copy")


class _Object(dict[str, object]):
    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _reject
    clear = pop = popitem = setdefault = update = _reject

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class _Array(list[object]):
    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _reject
    append = clear = extend = insert = pop = _reject
    remove = reverse = sort = _reject

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
