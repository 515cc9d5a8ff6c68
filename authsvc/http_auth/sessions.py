"""Who mints the ids of an MCP server's sessions, and so when authsvc learns of them."""

from __future__ import annotations

from enum import Enum, auto


class Sessions(Enum):
    """The sessions of one server.

    Attributes:
        MINTED: the server keeps none: authsvc mints their ids.
        ANNOUNCED: the server mints them, and its answers to ``initialize`` are seen: their ids are
            adopted from these. Its sessions are served to their owners alone.
        FIRST_USE: the server mints them, and its answers are not seen: an id is adopted at its
            first use with a valid token.
    """

    MINTED = auto()
    ANNOUNCED = auto()
    FIRST_USE = auto()
