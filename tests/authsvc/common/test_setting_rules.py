"""Rules between settings: each fault once, and none that follows from another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from authsvc.common.setting_rules import CheckedTable, Fault, rule
from authsvc.common.settings import Table
from authsvc.console.config import ConsoleSettings
from authsvc.server.config import Settings
from mcp_adapter.server.config import Settings as AdapterSettings


class Cup(Table):
    """A table with rules."""

    size: int = Field(ge=1)
    level: int = 0
    lid: str = ""

    @rule
    def _holds_it(self) -> Iterator[Fault]:
        if self.level > self.size:
            yield Fault("is more than size", ("level",))

    @rule
    def _lid_counts(self) -> Iterator[Fault]:
        if not self.level:
            yield from self.without_effect(["lid"], "on an empty cup")


class Shelf(Table):
    """A table of tables."""

    cups: tuple[Cup, ...] = ()


def faults(table: type[BaseModel], **values: object) -> list[str]:
    try:
        table.model_validate(values)
    except ValidationError as error:
        return [f"{item['loc']} {item['msg']}" for item in error.errors()]
    return []


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"size": 2, "level": 2, "lid": "x"}, []),
        ({"size": 2, "level": 0, "lid": ""}, []),
        ({"size": 2, "level": 3}, ["('level',) is more than size"]),
        ({"size": 2, "lid": "x"}, ["('lid',) has no effect on an empty cup"]),
        # The second rule depends on no wrong setting, the first one does.
        (
            {"size": 0, "lid": "x"},
            [
                "('size',) Input should be greater than or equal to 1",
                "('lid',) has no effect on an empty cup",
            ],
        ),
        ({"sise": 2, "level": 3}, ["('sise',) there is no such setting; is it size?"]),
        (
            {"zzz": 2, "level": 3},
            ["('size',) Field required", "('zzz',) there is no such setting"],
        ),
    ],
)
def test_faults(values: dict[str, object], wanted: list[str]) -> None:
    assert faults(Cup, **values) == wanted
    inside = [line.replace("('", "('cups', 0, '").replace(",)", ")") for line in wanted]
    assert faults(Shelf, cups=[values]) == inside


def test_a_mistake_in_a_rule_is_not_hidden() -> None:
    class Broken(Table):
        size: int

        @rule
        def _leaks(self) -> Iterator[Fault]:
            yield Fault(self.nothing)  # type: ignore[attr-defined] # the mistake

    with pytest.raises(AttributeError, match="nothing"):
        Broken(size=1)


def _tables(kind: object) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from _tables(field.annotation)
    elif get_origin(kind) is not None:
        for part in get_args(kind):
            yield from _tables(part)


TABLES = {table for top in (Settings, AdapterSettings, ConsoleSettings) for table in _tables(top)}


def test_all_tables_have_checked_rules() -> None:
    assert len(TABLES) > 20
    for table in TABLES:
        assert issubclass(table, CheckedTable), table
        assert table.NAMED_BY in {"", *table.model_fields}, table
        assert table.model_config.get("extra") == "forbid", table


def test_a_wrong_value_is_one_error() -> None:
    """pydantic reports an error for each member of a union, unless a discriminator chooses."""
    for table in TABLES:
        for name in table.model_fields:
            wrong = object()
            errors = [item for item in _errors(table, {name: wrong}) if item["loc"][:1] == (name,)]
            assert len(errors) == 1, (table, errors)


def _errors(table: type[BaseModel], values: dict[str, object]) -> list[ErrorDetails]:
    with pytest.raises(ValidationError) as caught:
        table(**values)
    return caught.value.errors()
