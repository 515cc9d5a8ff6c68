"""Posted forms: bounded in size, and URL-encoded."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BYTES = 16 * 1024
MAX_FIELDS = 20

_URLENCODED = "application/x-www-form-urlencoded"


async def posted_form(request: Request) -> dict[str, str]:
    """The fields of a posted form; the last value of a field that is repeated.

    Raises:
        HTTPException: the body is too large, or is not a form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _URLENCODED:
        raise HTTPException(415, "The body has to be a form.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(413, "The form is too large.")
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None
    return dict(fields)
