"""What the start of a response says of it. Names of headers are in lower case by ASGI; some apps
have others."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import Message

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

WITHOUT_CONTENT = {
    HTTPStatus.ACCEPTED,
    HTTPStatus.NO_CONTENT,
    HTTPStatus.RESET_CONTENT,
    HTTPStatus.NOT_MODIFIED,
}
"""Answers that have no content: ACCEPTED is what MCP answers to a notification."""


def has_known_length(start: Message) -> bool:
    """Whether the answer was complete when it began, whatever pieces a framework makes of it."""
    return start.get("status") in WITHOUT_CONTENT or bool(header(start, b"content-length"))


def media_type(start: Message) -> str:
    """The media type, in lower case and without parameters; empty without one."""
    return header(start, b"content-type").partition(";")[0].strip().lower()


def header(start: Message, name: bytes) -> str:
    """A header's value; empty without it."""
    for key, value in start.get("headers", ()):
        if key.lower() == name:
            return str(value, "latin-1")
    return ""
