"""A circuit breaker: while authsvc does not work, calls fail at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

FAILURES = 5
"""Calls in a row that have to fail. Each has used up its deadline or its attempts, on all replicas
that there are: one replica that is away is not enough."""

OPEN_SECONDS = 0.5

UNAVAILABLE = frozenset({Reason.SERVICE_UNAVAILABLE, Reason.STORE_UNAVAILABLE})
"""Errors that count as failures: authsvc cannot be reached, or its store cannot."""


class Breaker:
    """Fails calls at once while authsvc as a whole does not work; one at a time finds out.

    What counts is not to have been able to ask. A refusal is an answer, and so is an issuer's or a
    broker's being away, which others may not need.

    Args:
        target: where authsvc is, for the log.
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
        """One call, from its begin to its end.

        Raises:
            AuthError: SERVICE_UNAVAILABLE, at once, while it is open.
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
            # A probe that is given up has found out nothing: the next call is one.
            if probes:
                self._probing = False

    def _admit(self) -> bool:
        """Let a call through, and say whether it is the probe."""
        if self._failures < FAILURES:
            return False
        now = self._clock()
        if self._probing or now < self._open_until:
            raise AuthError(
                Reason.SERVICE_UNAVAILABLE,
                f"authsvc has not worked of late: {self._last}",
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
                "authsvc at %s does not work: calls fail at once until it does",
                self._target,
                extra={"target": self._target},
            )
        # Those that were let through earlier and fail late do not keep it open.
        if self._failures >= FAILURES and now >= self._open_until:
            self._open_until = now + OPEN_SECONDS

    def _answered(self) -> None:
        if self._failures >= FAILURES:
            log.info("authsvc at %s works again", self._target, extra={"target": self._target})
        self._failures = 0
