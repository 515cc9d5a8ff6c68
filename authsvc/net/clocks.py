"""Clocks of other machines, compared with this one's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

DIFFERS_SECONDS = 10.0
"""A larger offset is reported: a third of the default of ``leeway_seconds``."""

RESOLUTION_SECONDS = 2.0
"""A header has whole seconds, and its answer takes time: a smaller offset is none."""

MAX_OFFSET_SECONDS = 10 * 366 * 86_400.0
"""A date that is further off is no clock's, but a mistake of the server."""

_AGE = re.compile(r"[0-9]{1,9}")


def http_time(headers: Mapping[str, str]) -> float | None:
    """The clock of the server that made an answer, in seconds since the epoch.

    A cache sends the date at which it has received the answer, and the time since then as ``Age``.
    The date has whole seconds (RFC 9110 section 6.6.1), on average half a second early.

    Args:
        headers: of the answer, by name in lower case.

    Returns:
        None where it has no date that can be read.
    """
    try:
        date = parsedate_to_datetime(headers["date"])
        # Without a zone, it would be taken for the local one.
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    age = headers.get("age", "").strip()
    return seconds + 0.5 + (float(age) if _AGE.fullmatch(age) else 0.0)


def http_offset(theirs: float | None, ours: float) -> float | None:
    """A server's clock minus ours, in seconds; 0 below what the header shows.

    Args:
        theirs: as ``http_time`` has it.
        ours: seconds since the epoch, at the same moment.

    Returns:
        None where it is unknown, or absurd.
    """
    if theirs is None or abs(theirs - ours) > MAX_OFFSET_SECONDS:
        return None
    offset = theirs - ours
    return offset if abs(offset) >= RESOLUTION_SECONDS else 0.0
