"""Structured logs: one JSON object a line, or readable lines on a terminal.

Modules log with the standard library; what they pass as ``extra`` becomes a field.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

Format = Literal["auto", "json", "console"]


def configure(level: str, log_format: Format) -> None:
    """Send all logs to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``auto`` is ``console`` on a terminal and ``json`` elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=on_terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.format_exc_info] if as_json else []),
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries have nothing to say at DEBUG that is ours to show, headers among it.
    for name in ("asyncio", "botocore", "aiobotocore", "grpc", "httpx", "mcp", "uvicorn"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
