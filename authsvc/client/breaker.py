"""A circuit breaker: while authsvc does not work, calls fail at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

FAILURES = 5
"""Consecutive calls that have to fail to open it. Each has used up its deadline or its attempts, on
all replicas: one unavailable replica is not enough."""

OPEN_SECONDS = 0.5
"""How long it stays open before a call probes."""

UNAVAILABLE = frozenset({Reason.SERVICE_UNAVAILABLE, Reason.STORE_UNAVAILABLE})
"""Errors that count as failures: authsvc is unreachable, or its store is."""


class Breaker:
    """Fails calls at once while authsvc as a whole is unavailable; one call at a time probes it.

    A rejection is an answer and no failure. Nor is an unavailable issuer or broker, which other
    calls may not need.

    Args:
        target: the address of authsvc, for the log.
        clock: seconds, of any origin.
    """

    def __init__(self, target: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._probing = False
        self._last = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, from its start to its end.

        Raises:
            AuthError: SERVICE_UNAVAILABLE, while it is open.
        """
        probes = self._admit()
        try:
            yield
        except AuthError as error:
            if error.reason in UNAVAILABLE:
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

    def _admit(self) -> bool:
        """Let a call through; whether it is the probe."""
        if self._failures < FAILURES:
            return False
        now = self._clock()
        if self._probing or now < self._open_until:
            raise AuthError(
                Reason.SERVICE_UNAVAILABLE,
                f"authsvc is unavailable; last failure: {self._last}",
                retry_after_seconds=max(self._open_until - now, OPEN_SECONDS),
            )
        self._probing = True
        return True

    def _failed(self, error: AuthError) -> None:
        self._failures += 1
        self._last = error.detail
        now = self._clock()
        if self._failures == FAILURES:
            log.error(
                "authsvc at %s is unavailable: calls fail at once until it recovers",
                self._target,
                extra={"target": self._target},
            )
        # Calls that began before it opened do not extend the time.
        if self._failures >= FAILURES and now >= self._open_until:
            self._open_until = now + OPEN_SECONDS

    def _answered(self) -> None:
        if self._failures >= FAILURES:
            log.info("authsvc at %s has recovered", self._target, extra={"target": self._target})
        self._failures = 0
