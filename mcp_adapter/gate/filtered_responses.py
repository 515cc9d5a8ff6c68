"""A response whose lists hold what its caller may call, in whatever pieces the app sends it.

JSON is held until it is complete, an event of a stream likewise. What cannot be filtered is not
sent: an error takes its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from http import HTTPStatus

from mcp_types import RequestId
from starlette.types import Message, Send

from authsvc.http_auth import refusals
from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.list_filter import UnreadableListError
from mcp_adapter.gate.response_ends import last_piece
from mcp_adapter.gate.response_starts import (
    EVENT_STREAM,
    JSON,
    WITHOUT_CONTENT,
    header,
    media_type,
)
from mcp_adapter.gate.server_sent_events import EventReader, with_data

MAX_BYTES = 16 * 1024 * 1024
"""Longest JSON and longest event that is held."""

_DESCRIBING_CONTENT = {
    b"content-length",
    *(b"etag", b"last-modified", b"accept-ranges"),
    *(b"content-md5", b"digest", b"content-digest", b"repr-digest"),
}
"""Headers about content that is no longer the same."""

_SHARED_CACHING = {b"cache-control", b"surrogate-control", b"cdn-cache-control"}

_PUBLIC = ("public", "s-maxage", "private")
"""Directives that ``private`` takes the place of."""

_FILES = {"http.response.pathsend", "http.response.zerocopysend"}

_TRAILERS = "http.response.trailers"

_CONTENT = {"http.response.body", _TRAILERS, *_FILES}
"""What follows the start of a response; anything else is a hint."""

_AN_END = b"\n\n"


class _Form(Enum):
    JSON = auto()
    EVENTS = auto()
    OTHER = auto()


_FORMS = {JSON: _Form.JSON, EVENT_STREAM: _Form.EVENTS}


class FilteredResponse:
    """The response to one request, as the app sends it by calling this.

    Args:
        send: towards the client.
        filtered: from JSON of the app's to that of the client's. Raises ``UnreadableListError``.
        refuse: answers the request in the app's place, while nothing has been sent.
        report: logs why.
        hold: called with the start of JSON that comes in pieces, at each of them but the last.
        request_id: of the request; None where no answer is owed.
        is_list: whether the request asks for a list, so that no other content than JSON and events
            answers it.
    """

    def __init__(
        self,
        send: Send,
        filtered: Callable[[bytes], bytes],
        refuse: Callable[[Refusal], Awaitable[None]],
        report: Callable[[UnreadableListError], None],
        hold: Callable[[Message], Awaitable[None]],
        request_id: RequestId | None = None,
        *,
        is_list: bool,
    ) -> None:
        self._send = send
        self._filtered = filtered
        self._refuse = refuse
        self._report = report
        self._hold = hold
        self._request_id = request_id
        self._is_list = is_list
        self._start: Message = {}
        self._form = _Form.OTHER
        self._text = bytearray()
        self._events = EventReader(MAX_BYTES)
        self._is_over = False

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends; nothing, once an error has taken its place."""
        if self._is_over:
            return
        try:
            await self._take(message)
        except UnreadableListError as error:
            self._is_over = True
            self._report(error)
            await self._end(refusals.internal_error())

    async def _take(self, message: Message) -> None:
        """
        Raises:
            UnreadableListError: the response cannot be filtered.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self._form = self._form_of(message)
            self._start = message
            if self._form is _Form.OTHER:
                await self._send(message)
            elif self._form is _Form.EVENTS:
                await self._send(_unshared(message))
        elif self._form is _Form.OTHER or kind not in _CONTENT:
            await self._send(message)
        elif kind == _TRAILERS:
            return
        elif kind in _FILES:
            raise UnreadableListError("it is sent as a file")
        elif self._form is _Form.JSON:
            await self._take_text(message)
        else:
            await self._take_events(message)

    def _form_of(self, start: Message) -> _Form:
        """
        Raises:
            UnreadableListError: it is encoded, or answers a request for a list with something else.
        """
        status = start["status"]
        if status in WITHOUT_CONTENT:
            return _Form.OTHER
        form = _FORMS.get(media_type(start), _Form.OTHER)
        if form is _Form.OTHER:
            if self._is_list and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                raise UnreadableListError("its Content-Type is neither JSON nor an event stream")
        elif header(start, b"content-encoding").strip().lower() not in {"", "identity"}:
            raise UnreadableListError("its content is encoded, although the request asks for none")
        return form

    async def _take_text(self, message: Message) -> None:
        self._text += message.get("body", b"")
        if len(self._text) > MAX_BYTES:
            raise UnreadableListError(f"it is longer than {MAX_BYTES} bytes")
        if message.get("more_body", False):
            await self._hold(self._start)
            return
        text, self._text = bytes(self._text), bytearray()
        text = self._filtered(text)
        start = _unshared(self._start)
        start["headers"].append((b"content-length", b"%d" % len(text)))
        await self._send(start)
        await self._send({**message, "body": text})

    async def _take_events(self, message: Message) -> None:
        is_last = not message.get("more_body", False)
        try:
            events = self._events.complete(message.get("body", b""))
        except OverflowError:
            raise UnreadableListError(f"an event is longer than {MAX_BYTES} bytes") from None
        if is_last:
            # Clients are to drop an event without its end, and some do not.
            events.append(self._events.rest())
        sent = bytearray()
        try:
            for event in events:
                sent += with_data(event, self._filtered)
        except UnreadableListError:
            if sent:
                await self._send({**message, "body": bytes(sent), "more_body": True})
            raise
        if sent or is_last:
            await self._send({**message, "body": bytes(sent)})

    async def _end(self, refusal: Refusal) -> None:
        if self._form is _Form.EVENTS:
            await self._send(last_piece(self._start, _AN_END, refusal, self._request_id))
        else:
            await self._refuse(refusal)


def _unshared(start: Message) -> Message:
    """The start of a response without what is about its content as it was, and for one caller's
    cache alone."""
    headers = [
        (name, value)
        for name, value in start.get("headers", ())
        if name.lower() not in _DESCRIBING_CONTENT | _SHARED_CACHING
    ]
    directives = [
        directive
        for name, value in start.get("headers", ())
        if name.lower() == b"cache-control"
        for directive in map(str.strip, value.decode("latin-1").split(","))
        if directive and directive.partition("=")[0].strip().lower() not in _PUBLIC
    ]
    headers.append((b"cache-control", ", ".join(["private", *directives]).encode("latin-1")))
    return {
        **{name: value for name, value in start.items() if name != "trailers"},
        "headers": headers,
    }
