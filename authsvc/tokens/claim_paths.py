"""Where a claim is: its name, or a JSON Pointer (RFC 6901) into one that holds others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from authsvc.tokens.values import MAX_TEXT_LENGTH

MAX_PATH_LENGTH = 255
"""Characters of a name or a pointer."""

_WRONG_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A claim's name, or a JSON Pointer, which begins with ``/``.

    Attributes:
        text: as it is configured.

    Raises:
        ValueError: it is empty or too long, or no JSON Pointer; the message names the rule.
    """

    text: str
    _steps: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.text) <= MAX_PATH_LENGTH or not self.text.isprintable():
            raise ValueError(f"is a claim's name of 1 to {MAX_PATH_LENGTH} printable characters")
        if _WRONG_ESCAPE.search(self.text) and self.text.startswith("/"):
            raise ValueError(
                "is a JSON Pointer (RFC 6901), where ~ is written ~0 and a slash in a name ~1"
            )
        object.__setattr__(self, "_steps", _steps(self.text))

    def value(self, claims: Mapping[str, object]) -> object:
        """What is there; None where nothing is, or a step leads through no object or array."""
        found = claims.get(self._steps[0])
        for step in self._steps[1:]:
            found = _member(found, step)
        return found


@dataclass(frozen=True, slots=True)
class UsualPath(ClaimPath):
    """A place where many providers, but not all, have a claim: with another shape there, or too
    long, it is some other claim, and counts as absent.

    Attributes:
        most: strings in a list of them; 0 for one string.
    """

    most: int = 0

    def value(self, claims: Mapping[str, object]) -> object:
        """See ``ClaimPath.value``."""
        found = ClaimPath.value(self, claims)
        texts = [found]
        if self.most and isinstance(found, list) and len(found) <= self.most:
            texts = found
        is_usual = all(isinstance(it, str) and 0 < len(it) <= MAX_TEXT_LENGTH for it in texts)
        return found if is_usual else None


def _steps(text: str) -> tuple[str, ...]:
    if not text.startswith("/"):
        return (text,)
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def _member(value: object, step: str) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
        return value[int(step)]
    return None


def first(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> tuple[str, object]:
    """The first claim of ``paths`` that is there: the path, and the value; an empty path and None
    where none is."""
    for path in paths:
        value = path.value(claims)
        if value is not None:
            return path.text, value
    return "", None


def present(
    claims: Mapping[str, object], paths: tuple[ClaimPath, ...]
) -> Iterator[tuple[str, object]]:
    """The claims that are there, in the order of ``paths``: the path, and the value.

    ``null`` is no claim.
    """
    for path in paths:
        value = path.value(claims)
        if value is not None:
            yield path.text, value
