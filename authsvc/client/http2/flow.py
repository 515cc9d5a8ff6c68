"""Flow control of HTTP/2 (RFC 9113 section 5.2), for a connection that carries one stream."""

from __future__ import annotations

from authsvc.client.http2.frames import ErrorCode, Http2Error

DEFAULT_WINDOW = 65_535
"""Bytes that either side may send until SETTINGS or WINDOW_UPDATE change the window."""

MAX_WINDOW = 2**31 - 1

RECEIVE_WINDOW = 1 << 24
"""Bytes that the peer may send before a WINDOW_UPDATE for as many. What it sends is
consumed at once, so this bounds no memory: it must be large enough that the peer never waits."""


class SendWindow:
    """How many bytes of DATA the peer permits."""

    def __init__(self) -> None:
        self._connection = DEFAULT_WINDOW
        self._stream = DEFAULT_WINDOW
        self._initial = DEFAULT_WINDOW

    @property
    def available(self) -> int:
        """Bytes that may be sent now. Negative after the peer has made the window smaller."""
        return min(self._connection, self._stream)

    def take(self, size: int) -> None:
        """Send so many bytes."""
        self._connection -= size
        self._stream -= size

    def widen(self, stream_id: int, increment: int) -> None:
        """As a WINDOW_UPDATE says.

        Raises:
            Http2Error: it widens by nothing, or beyond what a window may be.
        """
        if not increment:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a window is widened by nothing")
        if stream_id:
            self._stream = _checked(self._stream + increment)
        else:
            self._connection = _checked(self._connection + increment)

    def set_initial(self, size: int) -> None:
        """As SETTINGS_INITIAL_WINDOW_SIZE says: a stream that is open changes by the difference.

        Raises:
            Http2Error: a window is larger than it may be.
        """
        self._stream = _checked(self._stream + _checked(size) - self._initial)
        self._initial = size


class ReceiveWindow:
    """How much the peer may still send: the same for the connection and its one stream."""

    def __init__(self) -> None:
        self._received = 0

    def receive(self, size: int) -> int:
        """Take in so many bytes of DATA, padding included.

        Returns:
            By how much both windows are to be widened now; 0 for not yet.

        Raises:
            Http2Error: the peer sent more than it may.
        """
        self._received += size
        if self._received <= RECEIVE_WINDOW // 2:
            return 0
        if self._received > RECEIVE_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window permits")
        consumed, self._received = self._received, 0
        return consumed


def _checked(window: int) -> int:
    if window > MAX_WINDOW:
        raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
    return window
