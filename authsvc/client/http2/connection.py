"""The connection of a ``GrpcCall``: its transport, its writes, and whether the peer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from authsvc.client.http2.call import GrpcCall, Listener
from authsvc.client.http2.frames import PING, ErrorCode, Http2Error, frame, go_away
from authsvc.client.http2.status import CallEnd, lost

KEEPALIVE_SECONDS = 15.0
"""After so long without a byte from the peer it is pinged. As of ``authsvc.net.channels``."""

PING_TIMEOUT_SECONDS = 5.0
"""How long the peer may take to send anything after a ping."""

PING_INTERVAL_SECONDS = 10.0
"""The shortest time between two pings that authsvc permits."""

MAX_UNSENT_REPLIES = 1_000
"""Acknowledgements that wait for a peer that does not read: it sends what they answer."""


class Caller(Listener, Protocol):
    """What a connection carries the call of."""

    def fill(self) -> None:
        """Send what there is, while the connection's ``may_send`` is true."""
        ...

    def going_away(self) -> None:
        """The peer takes no new call."""
        ...


class Connection(asyncio.Protocol):
    """One connection. What is sent in one pass of the event loop goes out in one write.

    Args:
        call: what it carries.
        loop: the running event loop.
    """

    def __init__(self, call: GrpcCall, loop: asyncio.AbstractEventLoop) -> None:
        self.connected: asyncio.Future[None] = loop.create_future()
        """Done once the peer speaks HTTP/2; fails with an OSError if it does not."""
        self.outdated: asyncio.Future[None] = loop.create_future()
        """Done once it accepts no new call."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done once its socket is closed."""
        self._call = call
        self._loop = loop
        self._caller: Caller | None = None
        self._transport: asyncio.Transport | None = None
        self._is_scheduled = False
        self._is_paused = False
        self._is_stalled = False
        self._is_closing = False
        self._heard_at = self._cleared_at = loop.time()
        self._pinged_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a call may begin."""
        return self._caller is None and not self.outdated.done() and self._call.may_begin

    @property
    def may_send(self) -> bool:
        """Whether a message would be sent at once, at least in part."""
        return self._call.may_send and not self._is_paused

    def begin(self, path: str, metadata: Iterable[tuple[str, str]], caller: Caller) -> None:
        """Begin the one call; to be called while ``is_usable``."""
        self._caller = caller
        self._call.begin(path, metadata, caller)
        self.flush_soon()

    def send(self, parts: Sequence[bytes], size: int) -> None:
        """Send a message, as of ``GrpcCall.send``."""
        self._call.send(parts, size)

    def finish(self) -> None:
        """Send no more messages."""
        if self._call.end is None:
            self._call.finish()
            self.flush_soon()

    def flush_soon(self) -> None:
        """Call the caller's ``fill`` in this pass of the event loop, and write."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def check(self) -> None:
        """Find out whether the peer is there, because it has not answered something in time."""
        now = self._loop.time()
        if not self.may_send and now - self._cleared_at >= KEEPALIVE_SECONDS:
            # It may answer pings, and still keep what is unsent for ever.
            self._end(lost("the peer takes no requests"))
            self.abort()
        elif now - self._pinged_at >= PING_INTERVAL_SECONDS and not self.closed.done():
            self._ping(now)

    def retire(self) -> None:
        """Begin no call on it any more."""
        if not self.outdated.done():
            self.outdated.set_result(None)

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Close it; a call that has not ended fails.

        Args:
            code: why; sent to the peer.
        """
        self._end(lost("the connection was closed by this client"))
        if self._transport is None or self._is_closing:
            return
        self._is_closing = True
        # A peer that does not read would keep the transport open.
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.write(go_away(code))
            self._transport.close()

    def abort(self) -> None:
        """Close it, and send nothing more."""
        if self._transport is not None:
            self._is_closing = True
            self._transport.abort()

    async def shut(self, grace_seconds: float) -> None:
        """Close it; after ``grace_seconds`` without waiting for the peer."""
        self.close()
        await asyncio.wait((self.closed,), timeout=grace_seconds)
        self.abort()
        await asyncio.wait((self.closed,))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the client's preface: in HTTP/2, the client sends first."""
        self._transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._fail_to_connect("the peer does not speak HTTP/2")
            self.abort()
            return
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._keep_alive)
        self._write()

    def data_received(self, data: bytes) -> None:
        """Take in what the peer has sent."""
        if self._is_closing:
            return
        call = self._call
        self._heard_at = self._loop.time()
        try:
            call.receive(data)
        except Http2Error as error:
            self._end(lost(f"the peer broke a rule of HTTP/2: {error}"))
            self.close(error.code)
            return
        if not self.connected.done() and call.is_connected:
            self.connected.set_result(None)
        if call.end is not None:
            self.close()
            return
        if call.is_going_away and not self.outdated.done():
            self.retire()
            if self._caller is not None:
                self._caller.going_away()
        if call.output or (self._is_stalled and call.may_proceed):
            self.flush_soon()

    def pause_writing(self) -> None:
        """The peer does not read as fast as is written."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._is_paused = False
        self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._end(lost("the connection was lost"))
        self._fail_to_connect("the connection was closed")
        self.closed.set_result(None)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._transport is None or self._is_closing:
            return
        if self._is_paused:
            if len(self._call.output) > MAX_UNSENT_REPLIES:
                self.abort()
            return
        self._call.proceed()
        if self._caller is not None:
            self._caller.fill()
        self._is_stalled = not self._call.may_send
        if not self._is_stalled:
            self._cleared_at = self._heard_at
        self._write()

    def _write(self) -> None:
        output = self._call.output
        if output and self._transport is not None:
            self._transport.write(b"".join(output))
            output.clear()

    def _end(self, end: CallEnd) -> None:
        self._call.fail(end)
        self.retire()

    def _fail_to_connect(self, why: str) -> None:
        if not self.connected.done():
            self.connected.set_exception(ConnectionError(why))
            # Where connecting was cancelled nobody awaits it, and the event loop would log that.
            self.connected.exception()

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        self._call.output.append(frame(PING, 0, 0, bytes(8)))
        self.flush_soon()
        self._wait(PING_TIMEOUT_SECONDS, self._expect_answer)

    def _keep_alive(self) -> None:
        now = self._loop.time()
        idle_seconds = now - self._heard_at
        if idle_seconds >= KEEPALIVE_SECONDS:
            self._ping(now)
        else:
            self._wait(KEEPALIVE_SECONDS - idle_seconds, self._keep_alive)

    def _expect_answer(self) -> None:
        if self._heard_at >= self._pinged_at:
            self._keep_alive()
            return
        self._end(lost("the peer is gone"))
        self.abort()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)
