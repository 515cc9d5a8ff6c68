"""GET and DELETE: requests about a session as a whole, for its owner alone."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authsvc.domain.resolution import Resolution
from mcp_adapter.gate import forwarding, refusals
from mcp_adapter.gate.authorization import OWNER, authorize
from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.request_headers import RequestHeaders
from mcp_adapter.gate.resolving import RequestResolver
from mcp_adapter.gate.serving import Serving, inner_scope


class SessionRequests:
    """Serves GET and DELETE.

    Args:
        resolving: identifies callers, and ends sessions.
        serving: serves what is admitted, and answers what is not.
        stateful: whether the app keeps sessions of its own, so that a DELETE reaches it.
        allow: the methods that are served, as a header.
    """

    def __init__(
        self, resolving: RequestResolver, serving: Serving, *, stateful: bool, allow: dict[str, str]
    ) -> None:
        self._resolving = resolving
        self._serving = serving
        self._stateful = stateful
        self._allow = allow

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a stream of what the app sends by itself."""
        try:
            request, resolution = await self._owner(scope)
        except Refusal as refusal:
            await self._serving.refuse(None, scope, receive, send, refusal)
            return
        inner, nothing = inner_scope(scope, request, resolution), forwarding.without_body(receive)
        await self._serving.serve(request, OWNER, resolution, inner, nothing, send)

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End a session: at authsvc, and then at an app that has it too."""
        try:
            request, resolution = await self._owner(scope)
            await self._resolving.revoke(request, resolution)
        except Refusal as refusal:
            await self._serving.refuse(None, scope, receive, send, refusal)
            return
        if not self._stateful:
            await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
            return
        inner, nothing = inner_scope(scope, request, resolution), forwarding.without_body(receive)
        # The session has just ended, by this request: its response ends with the token alone.
        await self._serving.serve(
            request, OWNER, resolution, inner, nothing, send, ends_with_session=False
        )

    async def _owner(self, scope: Scope) -> tuple[RequestHeaders, Resolution]:
        """The request and its caller, who owns the session.

        Raises:
            Refusal: the caller does not own it, or there are no sessions.
        """
        request = RequestHeaders.of(scope)
        if not request.in_session_era:
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "This revision of MCP has no sessions.",
                headers=self._allow,
            )
        request.required_session_id()
        if not request.token:
            raise refusals.unauthenticated(OWNER.scopes)
        resolution = await self._resolving.identify(request, OWNER, opens_session=False)
        authorize(resolution, OWNER)
        return request, resolution
