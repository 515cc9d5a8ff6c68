"""The state of a connection's parser, and the bytes that it keeps of an incomplete request."""

from __future__ import annotations

from enum import Enum, auto

from authsvc.http_server.heads import HeadError
from authsvc.http_server.settings import HttpLimits


class Part(Enum):
    """The part of a request that the parser reads."""

    NONE = auto()  # between two requests
    HEAD = auto()
    BODY = auto()  # chunks and trailers included


class ParsingState:
    """The state of one connection's parser.

    Attributes:
        part: what it reads.
        partial_bytes: of a head, or of what is between chunks, that is incomplete: only the parser
            has them in memory.

    Args:
        limits: the server's limits.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.part = Part.NONE
        self.partial_bytes = 0
        self._max_header_bytes = limits.max_header_bytes
        self._head_bytes = 0
        # Whether the bytes being parsed completed a head, or were part of a body.
        self._has_advanced = False

    def begin_read(self) -> None:
        """Bytes from the socket are about to be parsed."""
        self._has_advanced = False

    def end_read(self, count: int) -> int:
        """Bytes from the socket have been parsed.

        Args:
            count: how many.

        Returns:
            How many of them the parser keeps.

        Raises:
            HeadError: it keeps too many.
        """
        if self.part is Part.NONE or self._has_advanced:
            return 0
        self.partial_bytes += count
        if self.partial_bytes > self._max_header_bytes:
            raise HeadError(431, "head_too_large")
        return count

    def begin_head(self) -> None:
        """The first byte of a request was parsed."""
        self.part = Part.HEAD
        self._head_bytes = self.partial_bytes = 0

    def count_head(self, count: int) -> None:
        """Count bytes of a head, or of trailers.

        Raises:
            HeadError: there are too many.
        """
        self._head_bytes += count
        if self._head_bytes > self._max_header_bytes:
            raise HeadError(431, "head_too_large")

    def begin_body(self) -> None:
        """A head is complete."""
        self.part = Part.BODY
        self.advance()

    def advance(self) -> None:
        """Bytes of a body were parsed: nothing is incomplete."""
        self.partial_bytes = 0
        self._has_advanced = True

    def end_request(self) -> None:
        """A request is complete."""
        self.part = Part.NONE
        self._has_advanced = True
