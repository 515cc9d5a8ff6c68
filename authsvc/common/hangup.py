"""SIGHUP, which never ends a server: it has files read again.

A change of a file is noticed without it. It is what a log rotation or ``systemctl reload`` sends.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authsvc.net.watched_file import read_all_again

log = logging.getLogger(__name__)


def ignore_hangups() -> None:
    """Have SIGHUP do nothing yet, from the start of a server on; ``reloading`` gives it its effect.

    Not by SIG_IGN, which says that a process above, such as nohup, has it ignored: then it stays
    ignored.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _note)


@contextmanager
def reloading(reload: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGHUP calls a function; one that came before does so now. Afterwards it
    does nothing, to the end of the process.

    The loop has a handler of another signal already: it wakes up for each.

    Args:
        reload: runs on the event loop.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    # Its import takes longer than all that comes before ``ignore_hangups``.
    from asyncio import get_running_loop

    loop = get_running_loop()

    def hear(*_: object) -> None:
        loop.call_soon_threadsafe(reload)

    # Not by the loop: when it is closed, its signals have their default effect again. So have those
    # with handlers when Python ends, but for SIG_IGN.
    signal.signal(signal.SIGHUP, hear)
    if _Early.came:
        _Early.came = False
        hear()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def read_files_again() -> None:
    """Have every watched file read at its next use, and log that."""
    log.info("reload requested: certificates, keys, tokens and operators are read again")
    read_all_again()


class _Early:
    """Whether a SIGHUP came while the server started."""

    came = False


def _note(*_: object) -> None:
    _Early.came = True
