"""The headers of a call (RFC 9113 section 8, RFC 7541): the request's, and those of the response.

A call has one block of request headers and two of response headers, so that neither side profits
from a header table: the client's settings forbid one, and none is used here.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder, HPACKError

from authsvc.client.http2.frames import (
    END_HEADERS,
    HEAD_BYTES,
    WITH_PRIORITY,
    ErrorCode,
    Http2Error,
    without_padding,
)

MAX_BLOCK_BYTES = 64 * 1024
"""Of one block of response headers as it is sent, the heads of its frames included; and decoded."""

_PRIORITY_BYTES = 5

_NEVER_INDEXED = b"\x10"
"""Begins a literal with a name of its own that is put into no table (RFC 7541 section 6.2.3)."""

_PREFIX_MAX = 0x7F
"""What the seven bits of a length hold before more bytes follow (RFC 7541 section 5.1)."""

Headers = dict[bytes, bytes]
"""By name, in lower case. Values of equal names are joined with commas (RFC 9110 section 5.3)."""


def request_block(
    path: str, authority: str, scheme: str, metadata: Iterable[tuple[str, str]]
) -> bytes:
    """The headers that begin a gRPC call, encoded.

    Args:
        path: ``/package.Service/Method``.
        authority: whom the call is made to.
        scheme: ``http`` or ``https``.
        metadata: further headers. No proxy keeps them in a header table: they may be secrets.
    """
    headers = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *metadata,
    ]
    # Not by hpack's Encoder, which logs the block at DEBUG, and with it a service token.
    return b"".join(
        _NEVER_INDEXED + _string(name.encode()) + _string(value.encode()) for name, value in headers
    )


def _string(text: bytes) -> bytes:
    """RFC 7541 section 5.2. Not Huffman-coded: the length would tell about a token."""
    rest = len(text) - _PREFIX_MAX
    if rest < 0:
        return bytes((len(text),)) + text
    length = bytearray((_PREFIX_MAX,))
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + text


class HeaderBlocks:
    """Puts blocks of response headers together from HEADERS and CONTINUATION frames."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_BLOCK_BYTES)
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._block = bytearray()
        self._size = 0
        self.is_incomplete = False
        """Whether nothing but a CONTINUATION may come next."""

    def begin(self, flags: int, payload: bytes) -> Headers | None:
        """Take in a HEADERS frame.

        Returns:
            The headers; None while the block is incomplete.

        Raises:
            Http2Error: the frame or the block is invalid or too large.
        """
        payload = without_padding(flags, payload)
        if flags & WITH_PRIORITY:
            if len(payload) < _PRIORITY_BYTES:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            payload = payload[_PRIORITY_BYTES:]
        self._block.clear()
        self._size = 0
        return self.proceed(flags, payload)

    def proceed(self, flags: int, payload: bytes) -> Headers | None:
        """Take in a CONTINUATION frame. As ``begin``."""
        self._size += HEAD_BYTES + len(payload)
        if self._size > MAX_BLOCK_BYTES:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large")
        self._block += payload
        self.is_incomplete = not flags & END_HEADERS
        return None if self.is_incomplete else self._decoded()

    def _decoded(self) -> Headers:
        headers: Headers = {}
        try:
            for name, value in self._decoder.decode(bytes(self._block), raw=True):
                headers[name] = b"%b,%b" % (headers[name], value) if name in headers else value
        except HPACKError:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, "headers cannot be decoded") from None
        self._block.clear()
        return headers
