"""Structured logs: one JSON object a line, or readable lines on a terminal.

Modules log with the standard library; what they pass as ``extra`` becomes a field.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

from authsvc.telemetry.json_lines import JsonFormatter
from authsvc.telemetry.log_stream import LogStream

Format = Literal["auto", "json", "console"]


def configure(level: str, log_format: Format) -> None:
    """Send all logs to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; security events ignore it.
        log_format: ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    handler = LogStream(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else _for_terminals(colors=on_terminal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No line shows them, and each record would look them up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # At DEBUG, libraries log headers and other contents of requests.
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    # At INFO, these log the URL of each request, and its query may hold a secret.
    for name in _HTTP_CLIENTS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


_LIBRARIES = (
    *("aiobotocore", "aiohttp", "asyncio", "botocore", "grpc", "hpack", "httpcore"),
    *("httpcore2", "mcp", "opentelemetry", "uvicorn"),
)
_HTTP_CLIENTS = ("httpx", "httpx2")


def _for_terminals(*, colors: bool) -> logging.Formatter:
    # structlog imports rich where that is installed: a fifteenth of a second, for this alone.
    from authsvc.telemetry.terminal_lines import formatter

    return formatter(colors=colors)
