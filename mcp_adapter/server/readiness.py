"""Whether this server is ready: authsvc answers, and serves it at its resource."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from authsvc.common.periodic import repeat
from authsvc.common.rarely import Rarely
from authsvc.common.unexpected import FailureLog
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolver
from mcp_adapter.server.config import Settings
from mcp_adapter.server.telemetry import READY, AdapterMetrics

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
"""How often readiness is checked for its metric: about as often as Prometheus scrapes it."""

REPEAT_SECONDS = 60.0
"""How often the log repeats that it is not ready, and why."""

_REMEDIES = {
    Reason.CALLER_NOT_ALLOWED: "In authsvc's configuration, the entry of [[callers]] with this "
    "server's service token or certificate has to name this resource",
    Reason.RESOURCE_INVALID: "Spell resource canonically: absolute, lower-case host, no fragment",
}
"""How to correct the configuration, by reason."""


class Readiness:
    """Checks whether this server is ready, and reports it to the log and to the metrics.

    Args:
        resolver: authsvc.
        settings: of the adapter.
        metrics: of the adapter.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        resolver: Resolver,
        settings: Settings,
        metrics: AdapterMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._lines = Rarely(REPEAT_SECONDS, clock)
        self._failures = FailureLog("readiness could not be checked", clock=clock)
        self._was_ready = True

    async def check(self) -> None:
        """Check that authsvc answers, and that this server is registered for its resource.

        The request has neither session nor token, so authsvc stores nothing.

        Raises:
            AuthError: it does not. The log says how to correct it.
        """
        try:
            with self._metrics.authsvc.timed(READY):
                await self._resolver.resolve("", "", resource=self._settings.resource)
        except Exception as error:  # noqa: BLE001 - not ready, whatever a resolver raises
            self._metrics.ready = False
            failure = self._failure(error)
            self._report(failure)
            raise failure from None
        self._metrics.ready = True
        if not self._was_ready:
            self._was_ready = True
            self._lines = Rarely(REPEAT_SECONDS, self._clock)
            log.info("ready again")

    @asynccontextmanager
    async def kept_current(self) -> AsyncIterator[None]:
        """Check periodically until the end of the block: nobody may ask for ``/readyz``."""
        checking = repeat("readiness", INTERVAL_SECONDS, self._check_logged, begin=0.0)
        task = asyncio.create_task(checking, name="check readiness")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _check_logged(self) -> None:
        with suppress(AuthError):  # It is logged.
            await self.check()

    def _failure(self, error: Exception) -> AuthError:
        """The reason not to be ready; for a defect, whose frames are logged here, too."""
        if isinstance(error, AuthError):
            return error
        self._failures.report(error)
        return AuthError(Reason.SERVICE_UNAVAILABLE, f"the check failed: {type(error).__name__}")

    def _report(self, error: AuthError) -> None:
        """Log why it is not ready: at each new reason at once, then once a minute."""
        self._was_ready = False
        if not self._lines.may_pass(error.reason):
            return
        authsvc, remedy = self._settings.authsvc, _REMEDIES.get(error.reason)
        fields = {
            "reason": error.reason.name,
            "target": authsvc.target,
            "resource": self._settings.resource,
            "service_token_file": str(authsvc.service_token_file or ""),
        }
        log.warning("not ready: %s%s", error, f". {remedy}" if remedy else "", extra=fields)
