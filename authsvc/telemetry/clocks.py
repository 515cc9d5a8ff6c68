"""How far the clocks of the store and of the issuers are from ours, for metrics and the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from authsvc.common.rarely import Rarely
from authsvc.net.clocks import DIFFERS_SECONDS

log = logging.getLogger(__name__)

LOG_SECONDS = 3600.0
"""How often a line repeats that the clock of one peer differs."""


class ClockOffsets:
    """The offsets that were measured last.

    Attributes:
        seconds: by peer, their clock minus ours; without the peers whose clock is unknown.

    Args:
        monotonic: seconds of any origin.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seconds: Mapping[str, float] = {}
        self._warnings = Rarely(LOG_SECONDS, monotonic)
        self._warned: frozenset[str] = frozenset()

    def measured(self, seconds: Mapping[str, float]) -> None:
        """Replace all offsets, and log which clocks differ, or do not any more."""
        self.seconds = seconds
        for peer, offset in seconds.items():
            if abs(offset) > DIFFERS_SECONDS:
                self._warn(peer, offset)
            elif peer in self._warned:
                self._warned -= {peer}
                log.info("the clock of %s agrees with this machine's again", peer)

    def _warn(self, peer: str, offset: float) -> None:
        if not self._warnings.may_pass(peer):
            return
        self._warned |= {peer}
        log.warning(
            "the clock of %s is %.0f s %s this machine's; tokens and revocations go by both: "
            "synchronise them (NTP)",
            peer,
            abs(offset),
            "ahead of" if offset > 0 else "behind",
        )
