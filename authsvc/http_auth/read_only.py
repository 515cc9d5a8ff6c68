"""Params that a function cannot change: what is authorised is what the app gets.

They are subclasses of dict and list: code that uses ``isinstance`` treats them as such.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from copy import deepcopy
from typing import Any, NoReturn

_CHANGEABLE = (dict, list)


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("params are read-only")


class _ReadOnlyDict(dict[str, Any]):
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {name: deepcopy(value, memo) for name, value in self.items()}


class _ReadOnlyList(list[Any]):
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [deepcopy(value, memo) for value in self]


def _read_only(value: Any) -> Any:  # noqa: ANN401 - of whatever type the JSON is
    if isinstance(value, dict):
        return _ReadOnlyDict((name, _read_only(item)) for name, item in value.items())
    if isinstance(value, list):
        return _ReadOnlyList(map(_read_only, value))
    return value


class ReadOnlyParams(_ReadOnlyDict):
    """A request's params, read-only throughout.

    An array or object in them is copied at its first access and kept: most functions read a name
    alone, and some read the same value repeatedly.

    Args:
        params: of the request; left as they are.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - of whatever type the JSON is
        value = super().__getitem__(name)
        if type(value) in _CHANGEABLE:
            value = _read_only(value)
            dict.__setitem__(self, name, value)
        return value

    def __iter__(self) -> Iterator[str]:
        # With an __iter__ of its own, dict(params) and {**params} call __getitem__, too.
        return super().__iter__()

    def __or__(self, other: dict[Any, Any]) -> dict[Any, Any]:
        return dict(self) | other

    def __ror__(self, other: dict[Any, Any]) -> dict[Any, Any]:
        return other | dict(self)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as a dict's
        """As a dict's."""
        try:
            return self[name]
        except KeyError:
            return default

    def copy(self) -> dict[str, Any]:
        """As a dict's."""
        return dict(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override] # one of any mapping
        """As a dict's."""
        return ItemsView(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override] # one of any mapping
        """As a dict's."""
        return ValuesView(self)
