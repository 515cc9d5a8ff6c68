"""Tables of settings that report all of their faults at once, each at the setting concerned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import FunctionType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

Location = tuple[int | str, ...]
"""Where a setting is: the names of tables and settings, and positions in lists."""


class Fault(NamedTuple):
    """What is wrong with settings that are valid one by one.

    Attributes:
        message: what is wrong, and what mends it.
        at: the setting concerned, below the table whose rule finds it; empty for the table.
    """

    message: str
    at: Location = ()


NO_SUCH_SETTING = "there is no such setting"

UNKNOWN = "unknown"
"""The type of the error for a setting that does not exist."""

_NEAR = 0.75
"""How alike two names are, from 0 to 1, where one may be meant for the other: one letter of four is
missing or another one."""

_UNIT = re.compile(r"_(second|byte|file)s?\Z")
"""Ends that many names have, and that make none of them nearer to another."""

RuleT = TypeVar("RuleT", bound=Callable[[Any], Iterator[Fault]])

_RULES: set[Callable[[Any], Iterator[Fault]]] = set()


def rule(method: RuleT) -> RuleT:
    """Mark a method of a table as one of its rules: it yields the faults that it finds.

    It is also called where some of the settings are wrong. It ends where it reads one of these.
    """
    _RULES.add(method)
    return method


class CheckedTable(BaseModel):
    """Has rules between its settings, which are checked after the settings themselves.

    A setting that is wrong does not hide other faults: each rule that does not depend on it is
    checked as well.

    Attributes:
        NAMED_BY: in a list of such tables, the setting that names an entry, a string or a list of
            one; empty without one.
    """

    NAMED_BY: ClassVar[str] = ""
    _wrong: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            table = handler(data)
        except ValidationError as error:
            raise _of(cls, list(cls._all_of(data, error.errors(include_url=False)))) from None
        for name in cls._wrong:
            table.__dict__.pop(name, None)
        if faults := list(cls._faults(table)):
            raise _of(cls, [_error(*fault) for fault in faults])
        return table

    @classmethod
    def _faults(cls, table: Self) -> Iterator[Fault]:
        members = {name: value for base in reversed(cls.__mro__) for name, value in _own(base)}
        for member in members.values():
            if member not in _RULES:
                continue
            try:
                yield from member(table)
            except AttributeError as error:
                if error.name not in cls._wrong:
                    raise

    @classmethod
    def _all_of(cls, data: object, errors: list[ErrorDetails]) -> Iterator[InitErrorDetails]:
        """Errors of settings, and the faults that do not depend on the settings that are wrong."""
        names = {str(item["loc"][0]) for item in errors if item["loc"]}
        # A misspelt setting is not missing as well.
        unknown_names = names - cls.model_fields.keys()
        meant = {_nearest(name, cls.model_fields) or name for name in unknown_names}
        for item in errors:
            if item["type"] != "missing" or len(item["loc"]) > 1 or item["loc"][0] not in meant:
                yield cls._renewed(item)
        if isinstance(data, Mapping) and not cls._wrong:
            wrong = {*names, *meant} & cls.model_fields.keys()
            yield from cls._faults_without(data, names, wrong)

    @classmethod
    def _faults_without(
        cls, data: Mapping[str, object], names: set[str], wrong: set[str]
    ) -> Iterator[InitErrorDetails]:
        fields: dict[str, Any] = dict.fromkeys(sorted(wrong), (Any, None))
        rest = create_model(cls.__name__, __base__=cls, **fields)
        rest._wrong = frozenset(wrong)  # noqa: SLF001 - it is a subclass
        try:
            # BaseSettings' own would read the environment again.
            BaseModel.__init__(rest.__new__(rest), **{k: data[k] for k in data if k not in names})
        except ValidationError as error:
            yield from map(cls._renewed, error.errors(include_url=False))

    @classmethod
    def _renewed(cls, error: ErrorDetails) -> InitErrorDetails:
        """The error, in this table's words if it is an unknown name in it."""
        if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
            message = unknown(str(error["loc"][0]), cls.model_fields)
            return _error(message, error["loc"], kind=UNKNOWN)
        message = error["msg"].removeprefix("Value error, ")
        return _error(message, error["loc"], kind=error["type"], value=error["input"])

    def is_given(self, name: str) -> bool:
        """Whether a setting is written, in the file or a variable, and is not empty, 0 or false."""
        return name in self.model_fields_set and bool(getattr(self, name))

    def without_effect(self, names: Iterable[str], reason: str) -> Iterator[Fault]:
        """A fault for each of these settings that is given.

        Args:
            names: settings of this table.
            reason: why they have no effect, and what mends it.
        """
        for name in names:
            if self.is_given(name):
                yield Fault(f"has no effect {reason}", (name,))

    def unreached(self, name: str, bound: str) -> Iterator[Fault]:
        """A fault if a setting is given and above another one, which takes effect before it."""
        limit = getattr(self, bound)
        if getattr(self, name) > limit:
            yield from self.without_effect(
                (name,), f"above {bound} = {limit:g}: lower it, or raise {bound}"
            )


def unknown(name: str, names: Iterable[str]) -> str:
    """The error for a setting that does not exist.

    Args:
        name: as it is written.
        names: of the settings of its table. The nearest is suggested, if one is near.
    """
    nearest = _nearest(name, names)
    return NO_SUCH_SETTING + (f"; is it {nearest}?" if nearest else "")


def _nearest(name: str, names: Iterable[str]) -> str | None:
    written, sorted_names = name.lower().replace("-", "_"), sorted(names)
    for near in get_close_matches(written, sorted_names, n=len(sorted_names) or 1, cutoff=_NEAR):
        if get_close_matches(_stem(written), [_stem(near)], cutoff=_NEAR):
            return near
    return None


def _stem(name: str) -> str:
    return _UNIT.sub("", name)


def _own(base: type) -> Iterator[tuple[str, Any]]:
    return ((name, item) for name, item in vars(base).items() if isinstance(item, FunctionType))


def _error(
    message: str, at: Location = (), *, kind: str = "fault", value: object = None
) -> InitErrorDetails:
    # pydantic_core cannot be given errors of its own again if they are pydantic's, such as
    # path_type. It formats a custom message.
    custom = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=custom, loc=at, input=value)


def _of(cls: type[BaseModel], errors: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data(cls.__name__, errors)
