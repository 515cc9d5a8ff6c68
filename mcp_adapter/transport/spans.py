"""The SDK's spans of messages are made where somebody collects them.

The SDK makes a span of each message. Without a tracer provider nothing comes of it, and it costs as
much as all else that the SDK does for a call (decision 0025).
"""

from __future__ import annotations

from typing import Any

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider


class CollectedSpans(OpenTelemetryMiddleware):
    """Makes the SDK's spans once the process has a tracer provider, which can be at any time."""

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Serve one message."""
        if isinstance(get_tracer_provider(), ProxyTracerProvider):
            return await call_next(ctx)
        return await super().__call__(ctx, call_next)


def without_idle_spans(server: Server[Any]) -> Server[Any]:
    """``server``, which now makes no spans that nobody collects."""
    server.middleware[:] = [
        CollectedSpans() if type(item) is OpenTelemetryMiddleware else item
        for item in server.middleware
    ]
    return server
