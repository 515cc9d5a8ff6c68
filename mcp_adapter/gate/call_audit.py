"""The audit of a gate: what each request called, as whom, and how that ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from mcp_types import RequestId
from starlette.types import Message, Receive, Scope, Send

from authsvc.audit.calls import CallAudit, CallOutcome
from authsvc.common.trace_context import trace_id_of
from authsvc.domain.resolution import Resolution
from authsvc.http_auth import messages
from authsvc.http_auth.audited_requests import (
    CANCELLED,
    SUCCEEDED,
    AuditedRequest,
    Ending,
)
from authsvc.http_auth.headers import SESSION_ID, Headers
from authsvc.http_auth.named_calls import DeclaredArguments, NamedCall
from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.call_failures import failures
from mcp_adapter.gate.origins import peer_of
from mcp_adapter.gate.response_starts import header
from mcp_adapter.gate.watching import PIECES

_SESSION_ID = SESSION_ID.encode()

CLIENT_DISCONNECTED = "CLIENT_DISCONNECTED"
NO_RESPONSE = "NO_RESPONSE"
"""Reasons of calls whose response did not come to its end: the client left, the server stopped,
the app failed."""


class Serve(Protocol):
    """Serves the requests of one HTTP method."""

    def __call__(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        audited: AuditedExchange | None = None,
    ) -> Awaitable[None]:
        """Serve one request."""
        ...


class GateAudit:
    """Audits the requests of a gate.

    Args:
        audit: gets the events.
        resource: canonical URI of the server.
        declared: by tool, the arguments that are audited.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        audit: CallAudit,
        *,
        resource: str,
        declared: DeclaredArguments,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._audit = audit
        self._resource = resource
        self._declared = declared
        self._clock = clock

    async def serve(
        self, serve: Serve, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        """Serve one request by ``serve``, and audit its calls."""
        if not self._audit.wants():
            await serve(scope, headers, receive, send)
            return
        request = AuditedRequest(
            scope["method"],
            resource=self._resource,
            session_id=headers.get(SESSION_ID),
            client_address=peer_of(scope),
            trace_id=trace_id_of(headers.get("traceparent")),
        )
        audited = AuditedExchange(
            self._audit, request, receive, send, declared=self._declared, clock=self._clock
        )
        try:
            await serve(scope, headers, audited.receive, audited.send, audited)
        except asyncio.CancelledError:
            audited.cancelled()
            raise
        finally:
            audited.record()


class AuditedExchange:
    """One request and its response.

    Args:
        audit: gets the events.
        request: the request.
        receive: of the request.
        send: towards the client.
        declared: by tool, the arguments that are audited.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        audit: CallAudit,
        request: AuditedRequest,
        receive: Receive,
        send: Send,
        *,
        declared: DeclaredArguments,
        clock: Callable[[], float],
    ) -> None:
        self._audit = audit
        self._request = request
        self._receive = receive
        self._send = send
        self._declared = declared
        self._clock = clock
        self._began = clock()
        self._status = 0
        self._ending: Ending | None = None
        self._unanswered = NO_RESPONSE
        self._request_ids: Counter[RequestId] = Counter()
        self._failures: dict[RequestId, tuple[str, int]] = {}
        self._is_recorded = False

    def read(self, message: messages.Message) -> None:
        """Take the calls of the message."""
        self._request.read(message, self._declared)
        ids = (call.request_id for call in self._request.calls or ())
        self._request_ids = Counter(it for it in ids if it is not None)
        # The message's own trace context first: that of the HTTP request may be a proxy's.
        trace_ids = (_trace_id_in(entry.get("params")) for entry in messages.entries(message))
        self._request.trace_id = next(filter(None, trace_ids), self._request.trace_id)

    def admitted(self, resolution: Resolution) -> None:
        """Take who makes the request."""
        self._request.resolved(resolution)

    def refused(self, refusal: Refusal) -> None:
        """The request is answered in the app's place. Its response has not been cut off before."""
        if self._ending is None:
            self._ending = self._request.denied(refusal)
            self._status = refusal.status.value

    def ended(self, refusal: Refusal) -> None:
        """The response is cut off: its caller may have no more of it."""
        self._ending = Ending(CallOutcome.ENDED, refusal.cause)

    def cancelled(self) -> None:
        """The request is given up, by the server."""
        if self._unanswered is NO_RESPONSE:
            self._unanswered = CANCELLED

    async def receive(self) -> Message:
        """What the client sends."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._unanswered = CLIENT_DISCONNECTED
        return message

    async def send(self, message: Message) -> None:
        """Send to the client.

        Raises:
            OSError: the client has left.
        """
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._request.name_session(header(message, _SESSION_ID))
        elif self._request_ids and (body := message.get("body")):
            for request_id, reason in failures(body):
                if request_id in self._request_ids:
                    _, count = self._failures.get(request_id, ("", 0))
                    self._failures[request_id] = reason, count + 1
        try:
            await self._send(message)
        except OSError:
            self._unanswered = CLIENT_DISCONNECTED
            raise
        if message["type"] in PIECES and not message.get("more_body", False):
            if self._unanswered is NO_RESPONSE:
                self._unanswered = ""
            self.record()

    def record(self) -> None:
        """Audit the calls, once."""
        if self._is_recorded:
            return
        self._is_recorded = True
        current = trace_id_of(self._audit.traceparent())
        self._request.trace_id = current or self._request.trace_id
        for event in self._request.events(
            self._ending_of,
            status=self._status,
            duration_seconds=self._clock() - self._began,
        ):
            self._audit.record(event)

    def _ending_of(self, call: NamedCall) -> Ending:
        if self._ending is not None:
            return self._ending
        if self._unanswered is NO_RESPONSE:
            return Ending(CallOutcome.FAILED, NO_RESPONSE)
        if self._unanswered:
            return Ending(CallOutcome.ENDED, self._unanswered)
        reason = "" if call.request_id is None else self._failure_of(call.request_id)
        if reason or self._status >= HTTPStatus.BAD_REQUEST:
            return Ending(CallOutcome.FAILED, reason)
        return SUCCEEDED

    def _failure_of(self, request_id: RequestId) -> str:
        """Why the call failed; empty where it did not.

        A client may give two requests of a batch one id. As long as one of them has not failed,
        none of them has: a success is not hidden by another call's failure.
        """
        reason, count = self._failures.get(request_id, ("", 0))
        return reason if count >= self._request_ids[request_id] else ""


def _trace_id_in(params: object) -> str:
    """The trace that a message is of (MCP 2026-07-28, ``_meta``); empty without one."""
    meta: Mapping[str, Any] | object = params.get("_meta") if isinstance(params, dict) else None
    traceparent = meta.get("traceparent") if isinstance(meta, dict) else None
    return trace_id_of(traceparent) if isinstance(traceparent, str) else ""
