"""The headers of a request in one form, from any parser: names in lower case, values
without surrounding white space (RFC 9110 sections 5.1 and 5.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Names and values, as they came; a name may come several times."""

SESSION_ID = "mcp-session-id"

_WHITE_SPACE = b" \t"


def normalized(raw: RawHeaders) -> RawHeaders:
    """Headers in that form; the same object where they are in it already.

    uvicorn leaves the space after a value when it parses with httptools. Values are compared here
    and behind, byte by byte: a padded ``Mcp-Name`` would not be the tool's name.
    """
    if all(name.islower() and value == value.strip(_WHITE_SPACE) for name, value in raw):
        return raw
    return [(name.lower(), value.strip(_WHITE_SPACE)) for name, value in raw]


class Headers:
    """The headers of one request.

    Args:
        raw: all of them, in any form.

    Attributes:
        raw: all of them, in one form, in their order.
    """

    __slots__ = ("_first", "raw")

    def __init__(self, raw: RawHeaders = ()) -> None:
        self.raw = normalized(raw)
        self._first = dict(reversed(self.raw))

    @property
    def names(self) -> Iterable[bytes]:
        """Each name once."""
        return self._first.keys()

    @property
    def has_repeated(self) -> bool:
        """Whether a name comes several times."""
        return len(self._first) < len(self.raw)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a header; ``name`` in lower case."""
        value = self._first.get(name.encode())
        return default if value is None else value.decode("latin-1")

    def getlist(self, name: str) -> list[str]:
        """All values of a header; ``name`` in lower case."""
        wanted = name.encode()
        if (first := self._first.get(wanted)) is None:
            return []
        if not self.has_repeated:
            return [first.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._first

    def __getitem__(self, name: str) -> str:
        return self._first[name.encode()].decode("latin-1")
