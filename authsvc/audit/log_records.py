"""Records of events in the log: made without a look at the stack, as each request may have one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping


def log_record(
    logger: logging.Logger,
    level: int,
    text: str,
    fields: Mapping[str, object] | Iterable[tuple[str, object]],
) -> logging.LogRecord:
    """A record for ``logger.handle``, with the fields of an event.

    It does not say which line of the code has logged it: no line of the log shows that, and
    ``Logger.log`` walks the stack to find it.

    Args:
        logger: whose.
        level: of the record.
        text: what happened.
        fields: of the event, by name.
    """
    record = logger.makeRecord(logger.name, level, "", 0, text, (), None)
    # Not as ``extra``, which rejects names that a record factory has given.
    vars(record).update(fields)
    return record
