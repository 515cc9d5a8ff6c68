"""What a client gets in place of the rest of a response that its caller may no longer have."""

from __future__ import annotations

import json
from http import HTTPStatus

from mcp_types import RequestId
from starlette.types import Message, Send

from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.response_starts import EVENT_STREAM, JSON, header, media_type

_CONTENT_HEADERS = {b"content-type", b"content-length", b"content-encoding"}
"""Headers that say how the content of the app's answer is written."""

_EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")


async def answer_instead(
    send: Send, start: Message, refusal: Refusal, request_id: RequestId | None
) -> None:
    """Answer a call in the app's place, in an event where the app began an event stream.

    Args:
        send: towards the client, to which nothing has been sent.
        start: of the app's answer.
        refusal: why the caller may not have it.
        request_id: of the call.
    """
    is_event_stream = media_type(start) == EVENT_STREAM
    content_type = EVENT_STREAM if is_event_stream else JSON
    headers = [
        (name, value)
        for name, value in start.get("headers", ())
        if name.lower() not in _CONTENT_HEADERS
    ]
    headers.append((b"content-type", content_type.encode()))
    body = (_event if is_event_stream else _error)(refusal, request_id)
    await send({**start, "status": HTTPStatus.OK.value, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def last_piece(
    start: Message, tail: bytes, refusal: Refusal, request_id: RequestId | None
) -> Message:
    """The piece that ends a response that has begun: an event that answers the request, where one
    can follow what was sent.

    Args:
        start: of the response.
        tail: the last bytes that were sent of it.
        refusal: why it ends.
        request_id: of the request; None where no answer is owed.
    """
    is_plain = not header(start, b"content-encoding")
    is_event_stream = is_plain and media_type(start) == EVENT_STREAM
    is_owed = request_id is not None
    can_take_event = is_owed and is_event_stream and tail.endswith(_EVENT_ENDS)
    body = _event(refusal, request_id) if can_take_event else b""
    return {"type": "http.response.body", "body": body, "more_body": False}


def _event(refusal: Refusal, request_id: RequestId | None) -> bytes:
    return b"event: message\r\ndata: " + _error(refusal, request_id) + b"\r\n\r\n"


def _error(refusal: Refusal, request_id: RequestId | None) -> bytes:
    return json.dumps(refusal.message_for(request_id), separators=(",", ":")).encode()
