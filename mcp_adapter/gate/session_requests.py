"""GET and DELETE: requests about a session as a whole, for its owner alone."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authsvc.http_auth.authorizer import Authorizer
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver
from mcp_adapter.gate.call_audit import AuditedExchange
from mcp_adapter.gate.inner_requests import inner_scope, without_body
from mcp_adapter.gate.serving import Serving


class SessionRequests:
    """Serves GET and DELETE.

    Args:
        authorizer: decides on them.
        resolving: ends sessions.
        serving: serves what is admitted, and answers what is not.
        stateful: whether the app keeps sessions of its own, so that a DELETE reaches it.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        resolving: RequestResolver,
        serving: Serving,
        *,
        stateful: bool,
    ) -> None:
        self._authorizer = authorizer
        self._resolving = resolving
        self._serving = serving
        self._stateful = stateful

    async def get(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        audited: AuditedExchange | None = None,
    ) -> None:
        """Open a stream of what the app sends by itself."""
        try:
            admitted = await self._authorizer.owner(RequestHeaders.of(headers))
        except Refusal as refusal:
            await self._serving.refuse(None, scope, receive, send, refusal, audited=audited)
            return
        inner = inner_scope(scope, admitted.request, admitted.resolution)
        if audited is not None:
            audited.admitted(admitted.resolution)
        await self._serving.serve(admitted, inner, without_body(receive), send, audited=audited)

    async def delete(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        audited: AuditedExchange | None = None,
    ) -> None:
        """End a session: at authsvc, and then at an app that has it too."""
        try:
            admitted = await self._authorizer.owner(RequestHeaders.of(headers))
            await self._resolving.revoke(admitted.request, admitted.resolution)
        except Refusal as refusal:
            await self._serving.refuse(None, scope, receive, send, refusal, audited=audited)
            return
        if audited is not None:
            audited.admitted(admitted.resolution)
        if not self._stateful:
            await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
            return
        inner = inner_scope(scope, admitted.request, admitted.resolution)
        # The session has just ended, by this request: its response ends with the token alone.
        await self._serving.serve(
            admitted, inner, without_body(receive), send, ends_with_session=False, audited=audited
        )
