"""Metrics and traces of the adapter: its requests, and the latency of authsvc.

Wraps what ``running`` puts together, and is the gate's observer; the tools know nothing of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mcp_types.methods import SPEC_CLIENT_METHODS, SPEC_CLIENT_NOTIFICATION_METHODS
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc import __version__
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import Reason
from authsvc.domain.rates import RateLimit
from authsvc.domain.resolution import CountingResolver, Resolution
from authsvc.http_auth import eras
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_server.connection import ConnectionCounts
from authsvc.net.validity import Validity
from authsvc.telemetry.counts import Histogram, Operations
from authsvc.telemetry.families import (
    add_histogram,
    audited_calls,
    certificates,
    durations_by_operation,
    failures,
    items,
)
from authsvc.telemetry.spans import NoTracing, Tracing

METHODS = SPEC_CLIENT_METHODS | SPEC_CLIENT_NOTIFICATION_METHODS
"""Methods that are counted by their names; any other is ``other``."""

NO_METHOD, BATCH, OTHER, UNKNOWN = "none", "batch", "other", "unknown"

RESOLVE, CREATE, REVOKE, READY = "resolve", "create", "revoke", "ready"
"""Operations of authsvc; the last is a check of readiness, whichever RPC it takes."""

_OPERATIONS = (RESOLVE, CREATE, REVOKE, READY)
_REASONS = (Reason.CALLER_NOT_ALLOWED, Reason.RESOURCE_INVALID, Reason.SERVICE_UNAVAILABLE)

_REQUEST = "mcp_adapter.request"
"""Of an ASGI scope: the request that is counted, from ``app`` to ``observe``."""


@dataclass
class _Request:
    """What is known of one request so far."""

    method: str = NO_METHOD
    tool: str = ""
    status: int = 0
    traceparent: str = ""
    span: ExitStack = field(default_factory=ExitStack)


class AdapterMetrics(Collector):
    """The metrics of the adapter.

    Args:
        tools: the names of the tools that are served; a call of another is of ``unknown``.
        tracing: makes spans of requests.

    Attributes:
        ready: whether authsvc served this server at the last check.
        authsvc: operations of authsvc; the failures that alerts look for are counted from 0 on.
        audited_calls: number of call events by result; empty until the audit is open.
        certificates: gives the validity of each file of certificates in use, by its setting.
    """

    def __init__(self, tools: Collection[str] = (), tracing: Tracing | None = None) -> None:
        self._tracing = tracing or NoTracing()
        self.ready = False
        self.authsvc = Operations((it, reason.name) for it in _OPERATIONS for reason in _REASONS)
        self.connections = ConnectionCounts()
        self.audited_calls: Counter[str] = Counter()
        self.certificates: Callable[[], Mapping[str, Validity]] = dict
        self._tools = frozenset(tools)
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._in_flight = 0

    def app(self, app: ASGIApp) -> ASGIApp:
        """``app``, its requests counted."""
        return _Counted(app, self)

    def observe(self, scope: Scope, method: str, params: Mapping[str, Any]) -> None:
        """Note a message of a request: the observer of the gate behind ``app``."""
        request: _Request | None = scope.get(_REQUEST)
        if request is None:
            return
        is_first = request.method == NO_METHOD
        known = method if method in METHODS else OTHER
        request.method = known if is_first else BATCH
        if is_first:
            # The message's own trace context first: that of the HTTP request may be a proxy's.
            traceparents = (_traceparent_in(params), request.traceparent)
            request.span.enter_context(self._tracing.server_span(f"MCP {known}", *traceparents))
        if method == "tools/call":
            name = params.get("name")
            is_served = isinstance(name, str) and name in self._tools
            request.tool = str(name) if is_served else UNKNOWN

    async def served(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have ``app`` serve one request, and count it."""
        request = _Request(traceparent=Headers(scope["headers"]).get("traceparent"))

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        began = time.perf_counter()
        self._in_flight += 1
        try:
            with request.span:
                await app({**scope, _REQUEST: request}, receive, send_noted)
                self._tracing.set_attributes(_attributes(request))
        finally:
            self._in_flight -= 1
            self._count(request, scope, time.perf_counter() - began)

    def _count(self, request: _Request, scope: Scope, seconds: float) -> None:
        self._requests[request.method, str(request.status), _era(scope)] += 1
        if (histogram := self._seconds.get(request.method)) is None:
            histogram = self._seconds[request.method] = Histogram()
        histogram.observe(seconds)
        if request.tool:
            self._calls[request.tool, str(request.status)] += 1

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        yield InfoMetricFamily("mcp_adapter_build", "What runs.", value={"version": __version__})
        requests = CounterMetricFamily(
            "mcp_adapter_requests",
            "HTTP requests to the MCP endpoint, by the method of their message.",
            labels=("method", "status", "era"),
        )
        for labels, count in items(self._requests):
            requests.add_metric(labels, count)
        seconds = HistogramMetricFamily(
            "mcp_adapter_request_duration_seconds",
            "Latency of requests, to the end of the response.",
            labels=("method",),
        )
        for method, histogram in list(self._seconds.items()):
            add_histogram(seconds, (method,), histogram)
        calls = CounterMetricFamily(
            "mcp_adapter_tool_calls", "Calls of tools.", labels=("tool", "status")
        )
        for call, count in items(self._calls):
            calls.add_metric(call, count)
        in_flight = GaugeMetricFamily("mcp_adapter_requests_in_flight", "Requests being answered.")
        in_flight.add_metric((), self._in_flight)
        yield from (requests, seconds, calls, in_flight)
        yield GaugeMetricFamily(
            "mcp_adapter_ready", "1 while authsvc serves this server.", value=float(self.ready)
        )
        yield from self._of_connections()
        yield from certificates(
            "mcp_adapter_certificate_expire_timestamp_seconds",
            "mcp_adapter_certificate_issue_timestamp_seconds",
            self.certificates(),
        )
        yield audited_calls("mcp_adapter_audit_calls", self.audited_calls)
        yield durations_by_operation(
            "mcp_adapter_authsvc_duration_seconds",
            "Latency of authsvc, as the adapter sees it.",
            self.authsvc,
        )
        yield failures(
            "mcp_adapter_authsvc_failures",
            "Denials and rejections of authsvc, and calls without an answer.",
            self.authsvc,
        )

    def _of_connections(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "mcp_adapter_connections", "Open HTTP connections.", value=self.connections.open
        )
        yield GaugeMetricFamily(
            "mcp_adapter_buffered_bytes",
            "Requests and unread answers in memory, of all HTTP connections.",
            value=self.connections.buffered_bytes,
        )
        dropped = CounterMetricFamily(
            "mcp_adapter_connections_dropped",
            "HTTP connections that were refused or closed by a limit.",
            labels=("reason",),
        )
        for reason, count in items(self.connections.dropped):
            dropped.add_metric((reason,), count)
        yield dropped


def _era(scope: Scope) -> str:
    try:
        version = eras.protocol_version(Headers(scope["headers"]))
    except Refusal:  # the gate has answered so
        return UNKNOWN
    return "sessions" if eras.has_sessions(version) else "stateless"


def _attributes(request: _Request) -> dict[str, str | int]:
    """The attributes of a request's span, by OpenTelemetry's semantic conventions."""
    attributes: dict[str, str | int] = {"mcp.method.name": request.method}
    if request.tool:
        attributes["gen_ai.tool.name"] = request.tool
    if request.status:
        attributes["http.response.status_code"] = request.status
    if request.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        attributes["error.type"] = str(request.status)
    return attributes


def _traceparent_in(params: Mapping[str, Any]) -> str:
    """The trace context in a message (MCP 2026-07-28, ``_meta``); empty without one."""
    meta = params.get("_meta")
    traceparent = meta.get("traceparent") if isinstance(meta, dict) else None
    return traceparent if isinstance(traceparent, str) else ""


@dataclass(frozen=True, slots=True)
class _Counted:
    """An ASGI app. A class, since Starlette takes a function for a handler of its own."""

    app: ASGIApp
    metrics: AdapterMetrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.metrics.served(self.app, scope, receive, send)


@dataclass(frozen=True, slots=True)
class ObservedResolver:
    """A ``CountingResolver`` whose operations are timed.

    Attributes:
        resolver: decides.
        timed: by an operation's name, the context that it runs in.
    """

    resolver: CountingResolver
    timed: Callable[[str], AbstractContextManager[object]] = field(repr=False)

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        rate_limits: Sequence[RateLimit] = (),
        calls: int = 1,
        recheck: bool = False,
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """See ``CountingResolver``, as for all that follows."""
        with self.timed(RESOLVE):
            return await self.resolver.resolve(
                session_id,
                token,
                resource=resource,
                create=create,
                rate_limits=rate_limits,
                calls=calls,
                recheck=recheck,
                credentials=credentials,
            )

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        with self.timed(CREATE):
            return await self.resolver.create(
                token, resource=resource, rate_limits=rate_limits, credentials=credentials
            )

    async def revoke(self, session_id: str) -> None:
        with self.timed(REVOKE):
            await self.resolver.revoke(session_id)
