"""How an admitted request reaches the app, and how a refused one is answered."""

from __future__ import annotations

from functools import partial

from mcp_types import RequestId
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.refusal_log import RefusalLog
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.resolving import RequestResolver, log_fields
from mcp_adapter.gate import lingering, request_credentials, session_ids
from mcp_adapter.gate.call_audit import AuditedExchange
from mcp_adapter.gate.filtered_responses import FilteredResponse
from mcp_adapter.gate.list_filter import ListFilter, asks_for_list, plainly_answered
from mcp_adapter.gate.loop_lag import LoopLag
from mcp_adapter.gate.new_sessions import NewSessions
from mcp_adapter.gate.pacing import wait_while_connected
from mcp_adapter.gate.responses import response_of
from mcp_adapter.gate.watching import Watched


class Serving:
    """Serves requests by the app, for as long as their callers may have the response.

    Args:
        app: gets the requests that are admitted.
        resolving: asked again while a response streams.
        new_sessions: decides on the session id of the answer to an ``initialize``.
        resource_metadata: URL of the protected resource's metadata, for challenges.
        max_unread_bytes: how much of a refused body is dropped, so that the client gets to read
            the answer.
        refusal_log: has what an operator could mend.
        lists: takes from lists what their callers may not call; None to leave them as they are.
    """

    def __init__(
        self,
        app: ASGIApp,
        resolving: RequestResolver,
        new_sessions: NewSessions,
        *,
        resource_metadata: str,
        max_unread_bytes: int,
        refusal_log: RefusalLog,
        lists: ListFilter | None = None,
    ) -> None:
        self._app = app
        self._resolving = resolving
        self._new_sessions = new_sessions
        self._resource_metadata = resource_metadata
        self._max_unread_bytes = max_unread_bytes
        self._log = refusal_log
        self._lists = lists
        self._loop_lag = LoopLag()

    async def serve(
        self,
        admitted: Admitted,
        inner: Scope,
        receive: Receive,
        send: Send,
        request_id: RequestId | None = None,
        *,
        ends_with_session: bool = True,
        audited: AuditedExchange | None = None,
    ) -> None:
        """Serve a request that opens no session.

        Args:
            admitted: the request.
            inner: its scope, as the app sees it.
            receive: of the request, as the app sees it.
            send: towards the client.
            request_id: of the request; None where no answer is owed.
            ends_with_session: whether the response ends with the session, besides the token.
            audited: is notified of how it ends; None where it is not audited.
        """
        request, needed, resolution = admitted.request, admitted.needed, admitted.resolution
        session_id = request.session_id if ends_with_session else ""
        credentials = request_credentials.of_admitted(self._resolving, admitted, session_id)
        inner["state"][request_credentials.STATE_KEY] = credentials
        refuse = partial(self.refuse, request_id, inner, receive, send, audited=audited)
        watched = Watched(
            send,
            partial(self._resolving.check, request, needed, resolution, session_id),
            refuse,
            request_id,
            log_fields=partial(log_fields, request.session_id, resolution),
            on_end=None if audited is None else audited.ended,
            on_complete=None if credentials is None else credentials.end,
            on_lag=self._loop_lag.report,
        )
        response: Send = session_ids.SessionResponse(watched.send, request.session_id)
        message = inner["state"].get("mcp_message")
        if self._lists is not None and self._lists.concerns(message):
            inner = plainly_answered(inner)
            response = FilteredResponse(
                response,
                self._lists.of_caller(admitted),
                # In the audit the call has failed, by its status: the app has executed it.
                partial(self.refuse, request_id, inner, receive, send),
                self._lists.report,
                watched.hold,
                request_id,
                is_list=asks_for_list(message),
            )
        await watched.serve(self._app, inner, receive, response)

    async def serve_initialize(
        self,
        admitted: Admitted,
        inner: Scope,
        receive: Receive,
        send: Send,
        request_id: RequestId | None,
        *,
        audited: AuditedExchange | None = None,
    ) -> None:
        """Serve an ``initialize``; see ``serve``. Its response ends with the session it opens."""
        request, needed, resolution = admitted.request, admitted.needed, admitted.resolution
        refuse = partial(self.refuse, request_id, inner, receive, send, audited=audited)
        # A session of authsvc's exists by now; the app's own begins with the answer.
        session_id = resolution.session.id if resolution.session else ""
        credentials = request_credentials.of_admitted(
            self._resolving, admitted, "" if self._new_sessions.are_the_apps else session_id
        )
        inner["state"][request_credentials.STATE_KEY] = credentials
        watched = Watched(
            send,
            lambda: self._resolving.check(request, needed, resolution, initialized.session_id),
            refuse,
            request_id,
            is_repeatable=True,
            log_fields=lambda: log_fields(initialized.session_id, resolution),
            on_end=None if audited is None else audited.ended,
            on_complete=None if credentials is None else credentials.end,
            on_lag=self._loop_lag.report,
        )
        session_id_of = partial(self._new_sessions.session_id, request, resolution)
        # In the audit the call has failed, by its status: the app has executed it.
        refuse_answer = partial(self.refuse, request_id, inner, receive, send)
        initialized = session_ids.InitializeResponse(watched.send, session_id_of, refuse_answer)
        await watched.serve(self._app, inner, receive, initialized)

    async def refuse(
        self,
        request_id: RequestId | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        refusal: Refusal,
        *,
        audited: AuditedExchange | None = None,
    ) -> None:
        """Answer a request in the app's place."""
        refusal.drop_frames()
        if audited is not None:
            audited.refused(refusal)
        self._log.refused(refusal)
        try:
            await _wait_for_turn(refusal, receive)
        except ClientDisconnect:
            return
        answer = refusal.answer(request_id, resource_metadata=self._resource_metadata)
        response = response_of(answer)
        if refusal.leaves_body_unread:
            most = self._max_unread_bytes
            await lingering.respond(response, scope, receive, send, max_bytes=most)
        else:
            await response(scope, receive, send)


async def _wait_for_turn(refusal: Refusal, receive: Receive) -> None:
    """
    Raises:
        ClientDisconnect: the client left.
    """
    if refusal.pace is None:
        return
    if refusal.leaves_body_unread:
        # To see whether the client is connected would be to ask for its body.
        await refusal.pace.wait()
    else:
        await wait_while_connected(refusal.pace, receive)
