"""SIGHUP, which never ends a server: it has files read again.

A change of a file is noticed without it. It is what a log rotation or ``systemctl reload`` sends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authsvc.net.watched_file import read_all_again

log = logging.getLogger(__name__)


def ignore_hangups() -> None:
    """Have SIGHUP do nothing, from the start of a server on; ``reloading`` gives it its effect.

    Not by SIG_IGN, which says that a process above, such as nohup, has it ignored: then it stays
    ignored.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _ignored)


@contextmanager
def reloading(reload: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGHUP calls a function; afterwards, it does nothing again.

    Args:
        reload: runs on the event loop.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        # Replaced, not removed: to remove it would give it its default effect for a moment.
        loop.add_signal_handler(signal.SIGHUP, _ignored)


def read_files_again() -> None:
    """Have every watched file read at its next use, and log that."""
    log.info("reload requested: certificates, keys, tokens and operators are read again")
    read_all_again()


def _ignored(*_: object) -> None:
    """Of a signal."""
