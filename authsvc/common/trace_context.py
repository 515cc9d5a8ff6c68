"""W3C Trace Context, as far as it names a trace."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def trace_id_of(traceparent: str) -> str:
    """The trace that a ``traceparent`` is of: 32 hexadecimal digits; empty where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""
