"""From pydantic's errors to lines for people: where a setting is written, and what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from authsvc.common.setting_rules import NO_SUCH_SETTING, UNKNOWN, CheckedTable, Location

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Source:
    """What the settings of a program were read from.

    Attributes:
        settings_class: has the settings.
        path: of the file; None without one.
        from_file: what is in the file.
        variables: the variables that set something, by the names of tables and settings.
        from_variables: what they set.
    """

    settings_class: type[BaseModel]
    path: Path | None
    from_file: Mapping[str, Any]
    variables: Mapping[Location, str]
    from_variables: Mapping[str, Any]

    def line(self, error: ErrorDetails) -> str:
        """An error with the file or the variable that it is in, and the path of the setting.

        Values are not shown, as they may be secret, except the names of entries in lists.
        """
        location = error["loc"]
        variable = self._variable(location)
        data = self.from_file if variable is None else self.from_variables
        path, kind = _walk(self.settings_class, data, location)
        message = _message(error, kind, in_variable=variable is not None)
        if variable is None:
            source = "" if self.path is None else f"{self.path}: "
            return f"{source}{path or 'settings'}: {message}"
        name = self.variables[variable]
        if error["type"] == UNKNOWN and variable == location:
            message = self._message_for_variable(name, location) or message
        return f"{name}: {message}" if variable == location else f"{name}: {path}: {message}"

    def _message_for_variable(self, name: str, location: Location) -> str:
        """The error for a variable that has one underscore between names instead of two; empty
        unless it is one."""
        prefix = name[: len(name) - len("__".join(map(str, location)))]
        written = "_".join(map(str, location))
        for path in _variable_paths(self.settings_class):
            if path.replace("__", "_") == written:
                return f"{NO_SUCH_SETTING}; is it {prefix.upper()}{path.upper()}?"
        return ""

    def _variable(self, location: Location) -> Location | None:
        """The nearest variable that sets this; None where none does."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.variables:
                return location[:length] if _has(self.from_variables, location) else None
        return None


def _variable_paths(table: type[BaseModel], above: str = "") -> Iterator[str]:
    """The settings that variables can set, as variables have them, in lower case."""
    for name, field in table.model_fields.items():
        yield above + name
        kind = _bare(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _variable_paths(kind, f"{above}{name}__")


def _has(data: object, location: Location) -> bool:
    """Whether the last name of a location that data can have is in it."""
    for part in location:
        if not isinstance(data, dict):
            return True
        if part not in data:
            return False
        data = data[part]
    return True


def _walk(table: type[BaseModel], data: object, location: Location) -> tuple[str, object]:
    """The path of a setting as a user reads it, and its type.

    An entry of a list has its name, or its position where it has none; a list's only value has
    neither.
    """
    path, kind = "", _bare(table)
    for part in location:
        if isinstance(part, int):
            kind = _bare(get_args(kind)[0])
            path += _entry(kind, data, part)
            data = data[part] if isinstance(data, list) and part < len(data) else None
        elif (member := _tagged(kind, part)) is not None:
            kind = _bare(member)
        elif part != "[key]":
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            path += f".{key}" if path else key
            kind = _bare(_type_below(kind, part))
            data = data.get(part) if isinstance(data, dict) else None
    return path, kind


def _bare(kind: object) -> object:
    """A type without its annotations and without None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return _bare(members[0])
    return kind


def _type_below(kind: object, name: str) -> object:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(name)
        return None if field is None else field.annotation
    return get_args(kind)[-1] if get_origin(kind) is dict else None


def _tagged(kind: object, tag: str) -> object | None:
    """The member of a union that pydantic names by a tag."""
    if get_origin(kind) not in (Union, UnionType):
        return None
    members = (member for member in get_args(kind) if Tag(tag) in get_args(member)[1:])
    return next(members, None)


def _entry(kind: object, data: object, position: int) -> str:
    entries = data if isinstance(data, list) else []
    if not (isinstance(kind, type) and issubclass(kind, CheckedTable)):
        return f"[{position}]" if len(entries) != 1 else ""
    names = [_name(entry, kind.NAMED_BY) for entry in entries]
    name = names[position] if position < len(names) else None
    return f"[{name if _is_name(name) and names.count(name) == 1 else position}]"


def _name(entry: object, named_by: str) -> object:
    name = entry.get(named_by) if isinstance(entry, dict) else None
    return name[0] if isinstance(name, list) and len(name) == 1 else name


def _is_name(name: object) -> bool:
    """Whether this can stand in a path. It may be wrong itself; a URL may have a password."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST_NAME
        and name.isprintable()
        and not ("@" in name and "//" in name)
    )


_MESSAGES = {
    "missing": "is required",
    "string_type": "is a string, in quotes",
    "string_too_short": "is not empty",
    "bool_type": "is true or false",
    "bool_parsing": "is true or false",
    "int_type": "is a whole number",
    "int_parsing": "is a whole number",
    "int_from_float": "is a whole number",
    "float_type": "is a number",
    "float_parsing": "is a number",
    "finite_number": "is a finite number",
    "path_type": "is a path, in quotes",
    "too_short": "has one entry or more",
}


def _message(error: ErrorDetails, kind: object, *, in_variable: bool) -> str:
    match error["type"]:
        case "tuple_type":
            return f"is a list{_written(error, kind, in_variable=in_variable)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"is a table{_written(error, kind, in_variable=in_variable)}"
        case name:
            return _MESSAGES.get(name) or error["msg"].replace("Input should be ", "is ", 1)


def _written(error: ErrorDetails, kind: object, *, in_variable: bool) -> str:
    """How a list or a table is written, where it may be mistaken."""
    if in_variable:
        return ", written as JSON"
    names = ".".join(part for part in error["loc"] if isinstance(part, str))
    is_list = error["type"] == "tuple_type"
    entry = _bare(get_args(kind)[0]) if is_list and get_args(kind) else kind
    if not (isinstance(entry, type) and issubclass(entry, BaseModel)):
        return ""
    return f" of tables: write [[{names}]]" if is_list else f": write [{names}]"
