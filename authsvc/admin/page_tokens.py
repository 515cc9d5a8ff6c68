"""Page tokens of lists: a store's cursor, bound to the filter that it belongs to."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import astuple

from authsvc.admin.checks import invalid
from authsvc.domain.events import RecordFilter

_DIGEST_BYTES = 8


def page_token_of(cursor: str, which: RecordFilter) -> str:
    """The page token of a store's cursor."""
    return base64.urlsafe_b64encode(_digest(which) + cursor.encode()).decode()


def cursor_in(page_token: str, which: RecordFilter) -> str:
    """The inverse of ``page_token_of``.

    Raises:
        AuthError: ARGUMENT_INVALID: it was made otherwise, or for another filter.
    """
    try:
        content = base64.b64decode(page_token, altchars=b"-_", validate=True)
        digest, cursor = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:].decode()
    except ValueError:
        raise invalid("page_token is malformed") from None
    if not cursor or digest != _digest(which):
        raise invalid("page_token belongs to another filter")
    return cursor


def _digest(which: RecordFilter) -> bytes:
    return hashlib.sha256(json.dumps(astuple(which)).encode()).digest()[:_DIGEST_BYTES]
