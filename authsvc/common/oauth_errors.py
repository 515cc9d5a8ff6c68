"""Error responses of authorization servers (RFC 6749 section 5.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

CLIENT_REJECTED = "invalid_client"
"""Client authentication failed."""

SECRET_CHARACTERS = 16
"""The shortest value that may be a secret. Shorter ones, such as names, are parts of codes."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""The form of registered error codes. The specification allows more characters."""


def error_code(body: bytes, sent: Iterable[str] = ()) -> str:
    """The ``error`` of a response, for logs and decisions; empty where there is none of that form.

    ``error_description`` and ``error_uri`` are not read: they may repeat the request.

    Args:
        body: the response; what was read of it.
        sent: what the request held. A code is not returned that is a part of it, or that repeats
            a value of ``SECRET_CHARACTERS``.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, cut off, or nested too deeply
        return ""
    code = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return ""
    return "" if any(_repeats(code, value) for value in sent) else code


def _repeats(code: str, value: str) -> bool:
    return code in value or (len(value) >= SECRET_CHARACTERS and value in code)


def described(status: int, code: str) -> str:
    """A status and an error code for a message: ``401 (invalid_client)``."""
    return f"{status} ({code})" if code else str(status)
