"""Periodic tasks of a running service: keys, health, certificates, the store, sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from authsvc.admin.retention import remove_expired
from authsvc.assertions.key_ring import REFRESH_SECONDS
from authsvc.common import periodic
from authsvc.domain.errors import AuthError
from authsvc.domain.service_status import IssuerState
from authsvc.net.certificate_files import CHECK_SECONDS
from authsvc.rpc.health import HealthServicer
from authsvc.server.assembly import Service
from authsvc.server.clocks import clock_offsets
from authsvc.server.config import Settings
from authsvc.server.handlers import AUTHSVC_SERVICES
from authsvc.signals.status import WRITE_SECONDS
from authsvc.stores.writes import PROBE_KEPT_SECONDS, PROBE_KEY

log = logging.getLogger(__name__)

SWEEP_INTERVAL_SECONDS = 60.0

COUNT_INTERVAL_SECONDS = 15.0
"""How often sessions are counted and the store's space is read, for metrics: about as often as
Prometheus scrapes by default."""

CLOCKS_SECONDS = 60.0
"""How often clocks are compared without metrics; with them, every ``COUNT_INTERVAL_SECONDS``."""

STREAMS_SECONDS = 15.0
"""How often the status that other replicas have of the streams of signals is read, for metrics."""

REFRESH_INTERVAL_SECONDS = 2.0
"""How often the age of the keys is checked. Fetches are far rarer."""

REPORT_INTERVAL_SECONDS = 0.25
"""How often health is reported: short, so that a load balancer learns of a change at once."""

PROBE_INTERVAL_SECONDS = 1.0
"""How often a store that fails is asked. No request may reach a replica that is not ready: its
failures are counted, and its recovery is seen, all the same."""

repeat = partial(periodic.repeat, expected=(AuthError,))


class Housekeeping:
    """The periodic tasks of one service.

    Args:
        service: the running service.
        health: where its health is reported.
        settings: lifetimes of sessions, and whether they are counted.
    """

    def __init__(self, service: Service, health: HealthServicer, settings: Settings) -> None:
        self._service = service
        self._health = health
        self._limits = settings.session_limits()
        self._counts_sessions = settings.metrics is not None
        self._serves_gateways = settings.ext_authz is not None
        self._keys_ready = False
        self._missing: dict[str, str] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Report health once, then do all tasks until the end of the block."""
        await self._report_health()
        certificates = self._service.certificates
        certificates.check()
        tasks = [
            asyncio.create_task(repeat("report", REPORT_INTERVAL_SECONDS, self._report_health)),
            asyncio.create_task(repeat("probe", PROBE_INTERVAL_SECONDS, self.probe_store)),
            asyncio.create_task(repeat("sweep", SWEEP_INTERVAL_SECONDS, self._sweep)),
            asyncio.create_task(repeat("refresh", REFRESH_INTERVAL_SECONDS, self.refresh_keys)),
            asyncio.create_task(repeat("certificates", CHECK_SECONDS, certificates.check)),
        ]
        seconds = COUNT_INTERVAL_SECONDS if self._counts_sessions else CLOCKS_SECONDS
        clocks = repeat("clocks", seconds, self.compare_clocks, begin=0.0)
        tasks.append(asyncio.create_task(clocks))
        if self._counts_sessions:
            count = repeat("count", COUNT_INTERVAL_SECONDS, self._count_sessions, begin=0.0)
            measure = repeat("space", COUNT_INTERVAL_SECONDS, self.measure_store, begin=0.0)
            tasks += map(asyncio.create_task, (count, measure))
        if (assertions := self._service.assertions) is not None:
            tasks.append(
                asyncio.create_task(repeat("assertions", REFRESH_SECONDS, assertions.keys.refresh))
            )
        if (statuses := self._service.signal_statuses) is not None:
            tasks.append(
                asyncio.create_task(repeat("signal status", WRITE_SECONDS, statuses.write))
            )
            refresh = repeat("signal streams", STREAMS_SECONDS, statuses.refresh, begin=0.0)
            tasks.append(asyncio.create_task(refresh))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def refresh_keys(self) -> None:
        """Fetch the keys that are due; to be called once before ``running``."""
        service, now = self._service, self._service.clock()
        self._keys_ready = await service.verifier.refresh(now)
        if service.signals is not None:
            # Whether there are keys of each stream does not count for health: without them, signals
            # are answered 503, and tokens are verified as before.
            await service.signals.refresh(now)
        service.metrics.issuers = service.issuers.status(service.clock())

    async def _report_health(self) -> None:
        """SERVING only while the store is ready, and there are keys of every issuer; the service
        for gateways, only while there are keys of assertions, too."""
        self._log_readiness(missing := self._what_is_missing())
        self._service.metrics.ready = is_ready = not missing
        for name in ("", *AUTHSVC_SERVICES):
            self._health.report(name, serving=is_ready)
        if self._serves_gateways and (assertions := self._service.assertions) is not None:
            from authsvc.gateways.ext_authz import SERVICE_NAME

            self._health.report(SERVICE_NAME, serving=is_ready and assertions.keys.ready)

    def _what_is_missing(self) -> dict[str, str]:
        """What the service lacks to be ready, and why; empty once it is."""
        missing = {} if self._service.store.ready else {"the session store": ""}
        if not self._keys_ready:
            for issuer in self._service.metrics.issuers:
                if issuer.state is IssuerState.UNAVAILABLE:
                    missing[f"keys of {issuer.issuer} ({issuer.key_source})"] = issuer.failure
            missing = missing or {"keys of every issuer": ""}
        return missing

    def _log_readiness(self, missing: dict[str, str]) -> None:
        """Log each change of what is missing, once. At the start, nothing has gone missing."""
        before, self._missing = self._missing, missing
        if missing.keys() == (before or {}).keys():
            return
        if not missing:
            log.info("ready: nothing is missing any more")
            return
        parts = (f"{what}: {why}" if why else what for what, why in missing.items())
        level = logging.INFO if before is None else logging.WARNING
        log.log(level, "not ready: missing are %s", "; ".join(parts))

    async def probe_store(self) -> None:
        """Ask a store that fails: read while it is unavailable, write while it takes no writes."""
        store, metrics = self._service.store, self._service.metrics
        with suppress(AuthError):
            if not store.ready:
                await store.get(PROBE_KEY)
            elif not metrics.store_writes.work:
                await store.mark_received(PROBE_KEY, self._service.clock() + PROBE_KEPT_SECONDS)

    async def compare_clocks(self) -> None:
        """Read the clocks of the store and of the issuers, for metrics and the log."""
        self._service.metrics.clocks.measured(await clock_offsets(self._service))

    async def _sweep(self) -> None:
        self._service.session_audit.report_dropped()
        self._service.admin.actions.report()
        await remove_expired(self._service.store, now=self._service.clock(), limits=self._limits)

    async def _count_sessions(self) -> None:
        status = await self._service.admin.status.read(count_sessions=True)
        self._service.metrics.sessions = status.sessions

    async def measure_store(self) -> None:
        """Read the space of the store. While that fails, there is none to report."""
        space = None
        with suppress(AuthError):
            space = await self._service.store.space()
        self._service.metrics.store_space = space
