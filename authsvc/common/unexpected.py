"""How a failure that nothing foresaw is logged: without what it may quote."""

from __future__ import annotations

import logging
import traceback


def log_unexpected(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log an unexpected exception as an error: its type and its frames, without its message.

    The message may quote a token or what a client has sent.

    Args:
        log: the logger of the module that caught it.
        what: what has failed, such as ``a request failed unexpectedly``.
        error: the exception.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, frames)
