"""Of which type and length a request's body may be."""

from __future__ import annotations

from http import HTTPStatus

from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal


def check_type(headers: Headers) -> None:
    """
    Raises:
        Refusal: 415 unless the body is declared to be JSON.
    """
    if headers.get("content-type").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json.")


def declared_bytes(headers: Headers) -> int:
    """The value of Content-Length; 0 without it."""
    for name, value in headers.raw:
        if name == b"content-length" and value.isdigit():
            # Python converts no more than 4,300 digits, and no body has 20.
            return int(value.lstrip(b"0")[:20] or b"0")
    return 0


def check_length(count: int, max_bytes: int) -> None:
    """
    Raises:
        Refusal: 413 for a body of more than ``max_bytes``. The rest of it is not read, so the
            connection cannot be used again.
    """
    if count > max_bytes:
        raise Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {max_bytes} bytes.",
            headers={"Connection": "close"},
            setting="max_body_bytes",
        )
