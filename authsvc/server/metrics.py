"""The metrics of a configured service: what alerts look for is counted from 0 on.

Prometheus's ``increase`` and ``rate`` do not show how a series begins. Of the first failures, which
come between two scrapes, they show none.
"""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.access.callers import LOCAL_CALLER
from authsvc.domain.errors import Reason
from authsvc.rpc.admission import UNAUTHENTICATED
from authsvc.server.config import Settings
from authsvc.server.expiries import renewed_files
from authsvc.signals.auditing import CALLER as SIGNALS
from authsvc.telemetry.counts import NONE, OK, Operations
from authsvc.telemetry.metrics import UNKNOWN_NAME, Metrics, credential_label
from authsvc.telemetry.observed import STORE_OPERATIONS
from authsvc.telemetry.security import SecurityEvents

_RESULTS = (
    *(OK, NONE, Reason.ARGUMENT_INVALID.name),
    *(Reason.CREDENTIALS_REFUSED.name, Reason.CREDENTIALS_UNAVAILABLE.name),
)


def metrics_of(settings: Settings) -> Metrics:
    """The metrics of a service, before it does anything."""
    labels = map(credential_label, sorted(settings.credentials.names))
    return Metrics(
        store=Operations((it, Reason.STORE_UNAVAILABLE.name) for it in STORE_OPERATIONS),
        credentials=Operations(_credentials(*labels)),
        security=SecurityEvents(_callers(settings)),
        renewed_files=renewed_files(settings),
    )


def _credentials(*labels: str) -> Iterator[tuple[str, str]]:
    """Names and results of requests for credentials; none where no table has any."""
    if labels:
        yield from ((label, result) for label in labels for result in _RESULTS)
        yield UNKNOWN_NAME, Reason.ARGUMENT_INVALID.name


def _callers(settings: Settings) -> Iterator[str]:
    yield UNAUTHENTICATED
    yield from (it.name for it in settings.callers)
    if settings.resources:
        yield LOCAL_CALLER
    if settings.signals is not None:
        yield SIGNALS
