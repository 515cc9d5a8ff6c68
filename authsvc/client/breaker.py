"""Circuit breakers: while authsvc does not work, calls fail at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

FAILURES = 5
"""Consecutive calls that have to fail to open one. Each has used up its deadline or its attempts,
on all replicas: one unavailable replica is not enough."""

OPEN_SECONDS = 0.5
"""How long one stays open before a call probes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a breaker is for.

    Attributes:
        counts: whether a call has failed by this fault.
        reason: what calls fail with at once.
        what: what does not work, after which ``at TARGET`` follows in log lines.
        failing: what then happens to calls.
    """

    counts: Callable[[AuthError], bool]
    reason: Reason
    what: str
    failing: str


UNAVAILABLE = Fault(
    lambda error: (
        error.reason is Reason.SERVICE_UNAVAILABLE
        or (error.reason is Reason.STORE_UNAVAILABLE and not error.of_write)
    ),
    Reason.SERVICE_UNAVAILABLE,
    "authsvc",
    "calls",
)
"""authsvc is unreachable, or its store is. A store that takes no writes, as on a full disk, answers
all the same: calls of known sessions go on."""

NO_CREATIONS = Fault(
    lambda error: error.reason in {Reason.SERVICE_UNAVAILABLE, Reason.STORE_UNAVAILABLE},
    Reason.STORE_UNAVAILABLE,
    "creating sessions by authsvc",
    "creations",
)
"""No session can be created. Nothing else is known by that: a disk that is full, or that does not
answer, fails writes alone, by an error or by no answer in time."""


class Breaker:
    """Fails calls at once while they fail by one fault; one call at a time probes it.

    A rejection is an answer and no failure. Nor is an unavailable issuer or broker, which other
    calls may not need.

    Args:
        target: the address of authsvc, for the log.
        clock: seconds, of any origin.
        fault: what it is for.
    """

    def __init__(
        self,
        target: str,
        clock: Callable[[], float] = time.monotonic,
        fault: Fault = UNAVAILABLE,
    ) -> None:
        self._target = target
        self._clock = clock
        self._fault = fault
        self._failures = 0
        self._open_until = 0.0
        self._probing = False
        self._last = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, from its start to its end.

        Raises:
            AuthError: the fault's reason, while it is open.
        """
        probes = self._admit()
        try:
            yield
        except AuthError as error:
            if self._fault.counts(error):
                self._failed(error)
            else:
                self._answered()
            raise
        else:
            self._answered()
        finally:
            # A probe that is cancelled shows nothing: the next call is a probe.
            if probes:
                self._probing = False

    @contextmanager
    def other_call(self) -> Iterator[None]:
        """One call whose failure may have another cause: it counts as an answer or not at all.

        Raises:
            AuthError: the fault's reason, while it is open.
        """
        self._check()
        try:
            yield
        except AuthError as error:
            if not self._fault.counts(error):
                self._answered()
            raise
        else:
            self._answered()

    def _admit(self) -> bool:
        """Let a call through; whether it is the probe."""
        self._check()
        if self._failures < FAILURES:
            return False
        self._probing = True
        return True

    def _check(self) -> None:
        """
        Raises:
            AuthError: it is open, and it is not time to probe, or another call probes.
        """
        if self._failures < FAILURES:
            return
        now = self._clock()
        if self._probing or now < self._open_until:
            raise AuthError(
                self._fault.reason,
                f"{self._fault.what} is unavailable; last failure: {self._last}",
                retry_after_seconds=max(self._open_until - now, OPEN_SECONDS),
            )

    def _failed(self, error: AuthError) -> None:
        self._failures += 1
        self._last = error.detail
        now = self._clock()
        if self._failures == FAILURES:
            log.error(
                "%s at %s is unavailable: %s fail at once until it recovers",
                self._fault.what,
                self._target,
                self._fault.failing,
                extra={"target": self._target},
            )
        # Calls that began before it opened do not extend the time.
        if self._failures >= FAILURES and now >= self._open_until:
            self._open_until = now + OPEN_SECONDS

    def _answered(self) -> None:
        if self._failures >= FAILURES:
            log.info(
                "%s at %s has recovered",
                self._fault.what,
                self._target,
                extra={"target": self._target},
            )
        self._failures = 0
