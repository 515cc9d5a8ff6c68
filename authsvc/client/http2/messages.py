"""Messages of gRPC in the DATA of a stream: a flag, four bytes of length, and the message."""

from __future__ import annotations

from collections.abc import Sequence

from authsvc.client.http2.frames import ErrorCode, Http2Error

PREFIX_BYTES = 5

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The largest message that is received: gRPC's default."""


class MessageReader:
    """Puts messages together. Keeps at most one, and the frame that completes it."""

    def __init__(self) -> None:
        self._partial = bytearray()

    def messages(self, data: bytes) -> Sequence[bytes]:
        """The messages that ``data`` completes.

        Raises:
            Http2Error: a message is too large, or compressed, which no client asks for.
        """
        # Nearly always: one message in one frame.
        is_whole = not self._partial and len(data) >= PREFIX_BYTES
        if is_whole and _length(data, 0) == len(data) - PREFIX_BYTES:
            return (data[PREFIX_BYTES:],)
        self._partial += data
        complete: list[bytes] = []
        position = 0
        while len(self._partial) - position >= PREFIX_BYTES:
            start = position + PREFIX_BYTES
            end = start + _length(self._partial, position)
            if end > len(self._partial):
                break
            complete.append(bytes(self._partial[start:end]))
            position = end
        del self._partial[:position]
        return complete


def _length(data: bytes | bytearray, position: int) -> int:
    if data[position]:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a message is compressed")
    length = int.from_bytes(data[position + 1 : position + PREFIX_BYTES])
    if length > MAX_MESSAGE_BYTES:
        raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a message is too large")
    return length
