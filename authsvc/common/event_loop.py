"""The event loop of the servers, and the platforms that they run on."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from authsvc.common.settings import ConfigError

log = logging.getLogger(__name__)

PLATFORM = sys.platform
"""``sys.platform``; tests replace it."""

ResultT = TypeVar("ResultT")


def require_supported_platform() -> None:
    """
    Raises:
        ConfigError: servers do not run on this platform; clients do.
    """
    if PLATFORM == "win32":
        raise ConfigError(
            "servers run on Linux and other Unix systems, not on Windows: use WSL or a container"
        )


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a server on uvloop, or on asyncio's own event loop where uvloop is not installed.

    Returns:
        What ``main`` returns.
    """
    try:
        import uvloop
    except ImportError:
        log.info("uvloop is not installed: serving on asyncio's event loop, which is slower")
        return asyncio.run(main)
    return uvloop.run(main)
