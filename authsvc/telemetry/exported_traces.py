"""Spans that OpenTelemetry exports. It is imported only where traces are configured."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from authsvc import __version__
from authsvc.net.channels import DIRECT, system_trust
from authsvc.telemetry.counts import reason_of
from authsvc.telemetry.settings import TracingSettings
from authsvc.telemetry.spans import OperationObserver, Tracing

_PROPAGATOR = TraceContextTextMapPropagator()
_CERTIFICATE_VARIABLES = (
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
)


class ExportedTraces:
    """Spans of one provider. A failed span has the reason of its error, and not the message, which
    may quote a token."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("authsvc", __version__)

    @contextmanager
    def server_span(self, name: str, *traceparents: str) -> Iterator[None]:
        """See ``Tracing``, as for the other methods."""
        with self._span(name, SpanKind.SERVER, _parent(traceparents)):
            yield

    @contextmanager
    def client_span(self, name: str) -> Iterator[None]:
        with self._span(name, SpanKind.CLIENT, None):
            yield

    def set_attributes(self, attributes: Mapping[str, str | int]) -> None:
        span = trace.get_current_span()
        span.set_attributes(attributes)
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR))

    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def observed(self, component: str, observer: OperationObserver) -> OperationObserver:
        @contextmanager
        def traced(operation: str) -> Iterator[object]:
            with self.client_span(f"{component} {operation}"), observer(operation) as observed:
                yield observed

        return traced

    @contextmanager
    def _span(self, name: str, kind: SpanKind, parent: Context | None) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, parent, kind, record_exception=False, set_status_on_exception=False
        ):
            try:
                yield
            except Exception as error:
                self.set_attributes({"error.type": reason_of(error)})
                raise


def _parent(traceparents: tuple[str, ...]) -> Context:
    for traceparent in traceparents:
        # Into an empty context: the current one of a stream would be that of its first request.
        context = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
        if trace.get_current_span(context).get_span_context().is_valid:
            return context
    return Context()


@asynccontextmanager
async def exported(settings: TracingSettings | None, service: str) -> AsyncIterator[Tracing]:
    """Tracing whose spans are exported until the end of the block; see ``tracing``."""
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(
        resource=Resource.create({**named, "service.version": __version__}),
        # None leaves it to OTEL_TRACES_SAMPLER.
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)) if settings else None,
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint if settings else None,
        # For https; None leaves it to OpenTelemetry's variables.
        credentials=None if any(map(os.environ.get, _CERTIFICATE_VARIABLES)) else system_trust(),
        channel_options=DIRECT,  # type: ignore[arg-type] # of one option, as it is typed
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(_name_trace)
    try:
        yield ExportedTraces(provider)
    finally:
        for handler in handlers:
            handler.removeFilter(_name_trace)
        await asyncio.to_thread(provider.shutdown)


def _name_trace(record: logging.LogRecord) -> bool:
    """Add the ids of the current trace and span to a log record."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = trace.format_trace_id(context.trace_id)
        record.span_id = trace.format_span_id(context.span_id)
    return True
