"""Lines of the log as JSON objects: for machines, and for the audit log."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

_OWN_FIELDS = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None)))
"""What every record has; anything else came as ``extra``."""

_ENCODER = json.JSONEncoder(default=repr)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line, in ASCII.

    ``event``, ``level``, ``logger``, what was passed as ``extra``, ``timestamp`` and, of an
    exception, ``exception``. What JSON has no form for is written as ``repr`` has it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, object] = {"event": record.getMessage()}
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        fields["level"] = record.levelname.lower()
        fields["logger"] = record.name
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        time = datetime.fromtimestamp(record.created, UTC)
        fields["timestamp"] = time.isoformat().replace("+00:00", "Z")
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _ENCODER.encode(fields)
