"""Lines of the log for a terminal, by structlog. Imported only where the log goes to one."""

from __future__ import annotations

import io
import logging
from typing import TextIO

import structlog

from authsvc.common.printable import printable, printable_lines


def formatter(*, colors: bool) -> logging.Formatter:
    """Formats records as readable lines.

    Args:
        colors: whether the lines are coloured.
    """
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _printable_fields,
            # Plain: rich, where it is installed, shows local variables, tokens among them.
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_escaped_traceback),
        ],
    )


def _printable_fields(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape terminal sequences, and line ends that would forge a line of the log."""
    return {printable(name): _printable_field(name, value) for name, value in event.items()}


def _printable_field(name: str, value: object) -> object:
    if name == "exc_info" or isinstance(value, int | float | None):
        return value
    if isinstance(value, str):
        # Some messages have the frames of a traceback.
        return printable_lines(value) if name in _MULTILINE_FIELDS else printable(value)
    return printable(repr(value))


_MULTILINE_FIELDS = frozenset({"event", "exception", "stack"})


def _escaped_traceback(to: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """structlog's plain traceback, with the exception's text escaped."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    to.write("    " + printable_lines(text.getvalue()))
