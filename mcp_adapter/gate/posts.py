"""POST: the messages of MCP. Each is read, parsed, authorised, and given to the app."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mcp_adapter.gate import eras, forwarding, messages, refusals
from mcp_adapter.gate.authorization import authorize, requirement_for
from mcp_adapter.gate.bodies import Bodies
from mcp_adapter.gate.body_reading import replay
from mcp_adapter.gate.observing import CallObserver, observed
from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.request_headers import RequestHeaders
from mcp_adapter.gate.requirements import RequirementOf
from mcp_adapter.gate.resolving import RequestResolver
from mcp_adapter.gate.serving import Serving, inner_scope


class Posts:
    """Serves POST.

    Args:
        bodies: reads them.
        resolving: identifies callers.
        serving: serves what is admitted, and answers what is not.
        requirement: what a call needs.
        stateful: whether the app keeps sessions of its own.
        observer: is called with the calls of each request; None for none.
    """

    def __init__(
        self,
        bodies: Bodies,
        resolving: RequestResolver,
        serving: Serving,
        *,
        requirement: RequirementOf,
        stateful: bool,
        observer: CallObserver | None,
    ) -> None:
        self._bodies = bodies
        self._resolving = resolving
        self._serving = serving
        self._requirement = requirement
        self._stateful = stateful
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one POST."""
        request_id, body = None, b""
        try:
            try:
                request = RequestHeaders.of(scope)
            except Refusal:
                request_id = await self._bodies.request_id(scope, receive)
                raise
            body = await self._bodies.read(request, receive)
            message = messages.parse(body)
            request_id = messages.request_id_of(message)
            forwarding.check_message(request.version, message)
            opens_session = _opens_session(request, message)
            if self._observer is not None:
                observed(self._observer, scope, message)
            needed = requirement_for(
                self._requirement,
                request,
                message,
                stateful=self._stateful,
                opens_session=opens_session,
            )
            resolution = await self._resolving.identify(
                request, needed, opens_session=opens_session
            )
            authorize(resolution, needed, session_id=request.session_id)
            forwarding.check_routing(request.headers, request.version, message)
        except Refusal as refusal:
            if body:
                self._bodies.pace(refusal, request, body)
            body, message = b"", {}  # not held while the answer waits
            await self._serving.refuse(request_id, scope, receive, send, refusal)
            return
        except ClientDisconnect:
            return
        # An initialize opens a new session: the app does not see the session id that it names.
        inner = inner_scope(scope, request, resolution, body, in_session=not opens_session)
        inner["state"]["mcp_message"] = message
        receive = replay(body, receive)
        serve = self._serving.serve_initialize if opens_session else self._serving.serve
        await serve(request, needed, resolution, inner, receive, send, request_id)


def _opens_session(request: RequestHeaders, message: messages.Message) -> bool:
    """Whether the message opens a session.

    Raises:
        Refusal: 400 for a batch where the revision has none, or with ``initialize`` in it.
    """
    if isinstance(message, dict):
        return request.in_session_era and message.get("method") == "initialize"
    if request.version != eras.BATCH_VERSION:
        raise refusals.bad_request("Batches are not part of this revision of MCP.")
    if any(method == "initialize" for method, _ in messages.calls(message)):
        raise refusals.bad_request("initialize cannot be part of a batch.")
    return False
