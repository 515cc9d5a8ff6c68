"""Reading a message of Envoy's in the JSON form of protobuf, whatever it holds.

A field is spelled ``snake_case`` or ``lowerCamelCase``. What has another type than it should is
read as if it were not there: Envoy itself rejects it, and one odd entry hides no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_UNDERSCORED = re.compile(r"_([a-z0-9])")
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?)s")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one message.

    Attributes:
        items: as they were read, by name. May hold secrets: never show one that was not looked for.
    """

    items: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: object) -> Fields:
        """The fields of a value; none where it is no object."""
        return cls(value if isinstance(value, dict) else {})

    def __contains__(self, name: str) -> bool:
        return self._get(name) is not None

    def table(self, name: str) -> Fields:
        """A message in this one; without fields where it is not there."""
        return Fields.of(self._get(name))

    def tables(self, name: str) -> Iterator[Fields]:
        """The messages of a repeated field."""
        value = self._get(name)
        yield from map(Fields.of, value if isinstance(value, list) else [])

    def texts(self, name: str) -> list[str]:
        """The strings of a repeated field."""
        value = self._get(name)
        return [it for it in value if isinstance(it, str)] if isinstance(value, list) else []

    def text(self, name: str) -> str:
        """A string; empty where it is not there."""
        value = self._get(name)
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """A boolean; False where it is not there."""
        value = self._get(name)
        return value is True or value == "true"

    def number(self, name: str) -> int:
        """A whole number that is not negative; 0 where it is not there."""
        value = self._get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def seconds(self, name: str) -> float | None:
        """A duration; None where it is not there."""
        found = _SECONDS.fullmatch(self.text(name))
        return float(found[1]) if found else None

    @property
    def kind(self) -> str:
        """The name of the message in an ``Any``, without its package; empty where it is none."""
        return self.text("@type").rpartition("/")[2].rpartition(".")[2]

    def _get(self, name: str) -> object:
        if name in self.items:
            return self.items[name]
        return self.items.get(_UNDERSCORED.sub(lambda found: found[1].upper(), name))
