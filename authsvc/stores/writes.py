"""Whether a store takes writes: a full disk, or a server without memory, still serves reads."""

from __future__ import annotations

import logging

from authsvc.domain.errors import AuthError

log = logging.getLogger(__name__)

PROBE_KEY = "write-probe"
"""The key of a received message that a probe writes: its time-out removes it."""

PROBE_KEPT_SECONDS = 60.0


class WriteState:
    """Whether the last write worked; each change is logged once.

    Attributes:
        work: whether it did. A write that changed nothing, and one that nobody waits for, is none.
    """

    __slots__ = ("work",)

    def __init__(self) -> None:
        self.work = True

    def failed(self, error: AuthError) -> None:
        """A write has failed."""
        if self.work:
            self.work = False
            log.error(
                "the store takes no writes: no session is created, re-authenticated or revoked, "
                "and known sessions are served while it can be read: %s",
                error.detail,
            )

    def worked(self) -> None:
        """A write has worked."""
        if not self.work:
            self.work = True
            log.warning("the store takes writes again")
