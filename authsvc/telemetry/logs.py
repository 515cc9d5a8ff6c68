"""Structured logs: one JSON object a line, or readable lines on a terminal.

Modules log with the standard library; what they pass as ``extra`` becomes a field.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, TextIO

import structlog

from authsvc.common.printable import printable, printable_lines

Format = Literal["auto", "json", "console"]


def configure(level: str, log_format: Format) -> None:
    """Send all logs to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; security events ignore it.
        log_format: ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        # Plain: where rich is installed, its tracebacks show local variables, tokens among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=on_terminal, exception_formatter=_plain_traceback
        )
    handler = logging.StreamHandler(sys.stderr)
    # JSON escapes everything that is not ASCII by itself.
    before = structlog.processors.format_exc_info if as_json else _printable_fields
    handler.setFormatter(_formatter(before, renderer))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At DEBUG, libraries log headers and other contents of requests.
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    # At INFO, these log the URL of each request, and its query may hold a secret.
    for name in _HTTP_CLIENTS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


_LIBRARIES = (
    *("aiobotocore", "aiohttp", "asyncio", "botocore", "grpc", "httpcore", "httpcore2"),
    *("mcp", "opentelemetry", "uvicorn"),
)
_HTTP_CLIENTS = ("httpx", "httpx2")


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


def _plain_traceback(to: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """structlog's plain traceback, with the exception's text escaped."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    to.write("    " + printable_lines(text.getvalue()))


def append_to_file(logger_name: str, path: Path) -> None:
    """Also append one logger's lines to a file, as JSON. Only its owner can read the file.

    Raises:
        OSError: the file cannot be written, or is a symbolic link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _PrivateFile(path, encoding="utf-8")
    handler.setFormatter(_formatter(structlog.processors.JSONRenderer()))
    logging.getLogger(logger_name).addHandler(handler)


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A file that only its owner can read, also the new file after a rotation."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        # An existing file may have other permissions.
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding=self.encoding)


def _formatter(*processors: structlog.typing.Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *processors],
    )
