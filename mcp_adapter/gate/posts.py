"""POST: the messages of MCP. Each is read, parsed, authorised, and given to the app."""

from __future__ import annotations

from functools import partial

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from authsvc.http_auth import messages
from authsvc.http_auth.authorizer import Authorizer
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from mcp_adapter.gate.bodies import Bodies
from mcp_adapter.gate.call_audit import AuditedExchange
from mcp_adapter.gate.inner_requests import inner_scope, replay
from mcp_adapter.gate.observing import CallObserver, observed
from mcp_adapter.gate.serving import Serving


class Posts:
    """Serves POST.

    Args:
        bodies: reads them.
        authorizer: decides on them.
        serving: serves what is admitted, and answers what is not.
        observer: is called with the calls of each request; None for none.
    """

    def __init__(
        self,
        bodies: Bodies,
        authorizer: Authorizer,
        serving: Serving,
        *,
        observer: CallObserver | None,
    ) -> None:
        self._bodies = bodies
        self._authorizer = authorizer
        self._serving = serving
        self._observer = observer

    async def __call__(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        audited: AuditedExchange | None = None,
    ) -> None:
        """Serve one POST."""
        request_id, body = None, b""
        try:
            try:
                request = RequestHeaders.of(headers)
            except Refusal:
                request_id = await self._bodies.request_id(headers, receive)
                raise
            body = await self._bodies.read(request, receive)
            message = messages.parse(body)
            request_id = messages.request_id_of(message)
            if audited is not None:
                audited.read(message)
            admitted = await self._authorizer.message(
                request,
                message,
                observe=partial(observed, self._observer, scope, message)
                if self._observer
                else None,
            )
        except Refusal as refusal:
            if body:
                self._bodies.pace(refusal, request, body)
            body, message = b"", {}  # not held while the answer waits
            await self._serving.refuse(request_id, scope, receive, send, refusal, audited=audited)
            return
        except ClientDisconnect:
            return
        if audited is not None:
            audited.admitted(admitted.resolution)
        # An initialize opens a new session: the app does not see the session id that it names.
        opens_session = admitted.opens_session
        inner = inner_scope(scope, request, admitted.resolution, body, in_session=not opens_session)
        inner["state"]["mcp_message"] = message
        receive = replay(body, receive)
        serve = self._serving.serve_initialize if opens_session else self._serving.serve
        await serve(admitted, inner, receive, send, request_id, audited=audited)
