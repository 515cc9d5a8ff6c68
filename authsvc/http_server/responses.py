"""Responses of the server itself: to requests that no app sees."""

from __future__ import annotations

from http import HTTPStatus


def plain_response(status: int) -> bytes:
    """A complete response with the status's phrase as its body, after which the connection ends.

    Args:
        status: HTTP status; 503 comes with ``Retry-After``.
    """
    phrase = HTTPStatus(status).phrase
    retry = "retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(phrase)}\r\n{retry}connection: close\r\n\r\n{phrase}"
    ).encode()
