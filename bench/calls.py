"""The two ways to resolve, over ``bench.http2``: a call for each request, or one stream for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from authsvc.v1 import auth_pb2 as pb
from bench.http2 import Connection

UNARY = "/authsvc.v1.AuthService/ResolveSession"
STREAM = "/authsvc.v1.AuthService/ResolveSessionStream"

LARGEST_BATCH = 64
"""Entries in a message of a stream."""

Answer = pb.ResolveSessionResponse | bytes | None
"""Parsed where the transport had to, None for an error."""


class Calls(Protocol):
    """A connection on which requests are asked, under numbers of the caller's."""

    connection: Connection

    def ask(self, number: int, request: bytes) -> None:
        """Queue one request."""
        ...

    def flush(self) -> None:
        """Send what is queued."""
        ...

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """What has been answered meanwhile, by number."""
        ...


class UnaryCalls:
    """A call for each request.

    Args:
        target: whom to call.
        method: the RPC; requests and answers are bytes to us.

    Raises:
        OSError: the target cannot be reached.
    """

    def __init__(self, target: str, method: str = UNARY) -> None:
        self.connection = Connection(target, method)
        self._numbers: dict[int, int] = {}
        self._messages: dict[int, bytes] = {}
        self._queued: deque[tuple[int, bytes]] = deque()

    def ask(self, number: int, request: bytes) -> None:
        """See ``Calls``."""
        self._queued.append((number, request))

    def flush(self) -> None:
        """See ``Calls``. What the server does not allow yet stays queued, as with gRPC."""
        while self._queued and self.connection.may_open:
            number, request = self._queued.popleft()
            stream = self.connection.open()
            self._numbers[stream] = number
            self.connection.send(stream, request, end=True)
        self.connection.flush()

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """See ``Calls``."""
        for event in self.connection.receive():
            if event.message is not None:
                self._messages[event.stream] = event.message
            else:
                message = self._messages.pop(event.stream, None)
                yield self._numbers.pop(event.stream), message if event.ok else None


class StreamCalls:
    """One ``ResolveSessionStream`` for all requests; what is queued at a time goes in one message.

    Args:
        target: whom to call.

    Raises:
        OSError: the target cannot be reached.
    """

    def __init__(self, target: str) -> None:
        self.connection = Connection(target, STREAM)
        self._stream = self.connection.open()
        self._queued: list[bytes] = []

    def ask(self, number: int, request: bytes) -> None:
        """See ``Calls``."""
        self._queued.append(_entry(number, request))

    def flush(self) -> None:
        """See ``Calls``."""
        for first in range(0, len(self._queued), LARGEST_BATCH):
            batch = b"".join(self._queued[first : first + LARGEST_BATCH])
            self.connection.send(self._stream, batch, end=False)
        self._queued.clear()
        self.connection.flush()

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """See ``Calls``.

        Raises:
            ConnectionError: the stream has ended.
        """
        for event in self.connection.receive():
            if event.message is None:
                raise ConnectionError("the stream has ended; is it served at all?")
            for entry in pb.ResolveSessionStreamResponse.FromString(event.message).entries:
                yield entry.request_id, entry.response if entry.HasField("response") else None


def connect(target: str, method: str) -> Calls:
    """A connection for that RPC.

    Raises:
        OSError: the target cannot be reached.
    """
    return StreamCalls(target) if method == STREAM else UnaryCalls(target, method)


def _entry(number: int, request: bytes) -> bytes:
    """A ``ResolveSessionStreamRequest`` of one entry, around a request that is encoded already.
    Encoded messages that follow each other are one (protobuf.dev, "Encoding")."""
    entry = b"\x08%b\x12%b%b" % (_varint(number), _varint(len(request)), request)
    return b"\x0a%b%b" % (_varint(len(entry)), entry)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
