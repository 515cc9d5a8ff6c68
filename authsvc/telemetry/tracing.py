"""Traces by OpenTelemetry: what one request waited for, from the HTTP request to the store.

Cached responses have no span in authsvc: they take microseconds, and the caller's span covers them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsvc.telemetry.settings import TracingSettings
from authsvc.telemetry.spans import NoTracing, Tracing

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@asynccontextmanager
async def tracing(settings: TracingSettings | None, service: str) -> AsyncIterator[Tracing]:
    """Tracing as configured; its spans are exported until the end of the block.

    Args:
        settings: ``[tracing]``; without it, OpenTelemetry's own variables decide.
        service: the name of this program in traces. ``OTEL_SERVICE_NAME`` overrides it.
    """
    if settings is None and not any(map(os.environ.get, _ENDPOINT_VARIABLES)):
        yield NoTracing()
        return
    # The exporter takes a sixth of a second and 18 MB, for this alone.
    from authsvc.telemetry.exported_traces import exported

    async with exported(settings, service) as traces:
        yield traces
