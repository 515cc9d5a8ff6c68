"""The gate: pure ASGI in front of any MCP app. Each request brings its own identity, or has none.

It keeps no state: sessions are authsvc's, and the identity that an app sees is the one that came
back for this very request.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.errors import AuthError, Status
from authsvc.resolution import Resolution, Resolver, shown
from mcp_adapter import eras, messages, refusals
from mcp_adapter.bearer import AmbiguousCredentialsError, presented_token
from mcp_adapter.metadata import metadata_url
from mcp_adapter.refusals import Refusal
from mcp_adapter.requirements import Requirement, RequirementOf, default_requirement, union

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

SESSION_ID_HEADER = "mcp-session-id"

DEFAULT_MAX_BODY_BYTES = 4 * 1024 * 1024

_ALLOW = {"Allow": "POST, DELETE, OPTIONS"}


class SessionGate:
    """Authorises each request of an MCP endpoint, and gives it its identity.

    The app behind it finds in ``scope["state"]``, which is ``request.state``:

    - ``resolution``: the ``authsvc.resolution.Resolution`` of this request;
    - ``mcp_message``: the parsed JSON-RPC message, or batch of them.

    It does not find the Authorization header: a client's token goes no further than the gate.

    Args:
        app: an ASGI app that serves MCP over Streamable HTTP, without sessions of its own.
        resolver: decides who is asking; authsvc's client, as a rule.
        resource: canonical URI of this server, the audience that tokens must name (RFC 8707).
        requirement: what a request needs, by method and params.
        max_body_bytes: longest body that is read.
        body_timeout_seconds: how long a body may take to arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolver: Resolver,
        resource: str,
        requirement: RequirementOf = default_requirement,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        body_timeout_seconds: float = 30.0,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._resource = resource
        self._resource_metadata = metadata_url(resource)
        self._requirement = requirement
        self._max_body_bytes = max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection. Only lifespan events pass unseen."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        elif scope["method"] == "DELETE":
            await (await self._delete(scope))(scope, receive, send)
        else:
            # No stream is offered, so GET is 405 too (MCP "Listening for Messages").
            is_options = scope["method"] == "OPTIONS"
            status = HTTPStatus.NO_CONTENT if is_options else HTTPStatus.METHOD_NOT_ALLOWED
            await Response(status_code=status, headers=_ALLOW)(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = None
        try:
            caller = _Caller.of(scope)
            body = await messages.read_body(
                receive,
                caller.headers,
                max_bytes=self._max_body_bytes,
                timeout_seconds=self._body_timeout_seconds,
            )
            message = messages.parse(body)
            request_id = messages.request_id_of(message)
            opens_session = _check_shape(caller, message)
            needed = union(self._requirement(*call) for call in messages.calls(message))
            resolution = await self._resolve(caller, needed, opens_session=opens_session)
            _authorize(resolution, needed)
        except Refusal as refusal:
            answer = refusal.response(request_id, resource_metadata=self._resource_metadata)
            await answer(scope, receive, send)
            return
        except ClientDisconnect:
            return
        if opens_session and resolution.session is not None:
            send = _stamped(send, resolution.session.id)
        state = {**scope.get("state", {}), "resolution": resolution, "mcp_message": message}
        headers = [item for item in scope["headers"] if item[0] != b"authorization"]
        inner = {**scope, "state": state, "headers": headers}
        await self._app(inner, messages.replay(body, receive), send)

    async def _resolve(
        self, caller: _Caller, needed: Requirement | None, *, opens_session: bool
    ) -> Resolution:
        """Who is asking. A token that is refused is refused for open methods too."""
        resolver, resource = self._resolver, self._resource
        if not caller.in_session_era:
            call = resolver.resolve("", caller.token, resource=resource)
        elif opens_session:
            call = resolver.create(caller.token, resource=resource)
        else:
            call = resolver.resolve(caller.required_session_id(), caller.token, resource=resource)
        return await _answered(call, caller, needed)

    async def _delete(self, scope: Scope) -> Response:
        """End a session, for its owner alone: 204, or why not."""
        owner = Requirement()
        try:
            caller = _Caller.of(scope)
            if not caller.in_session_era:
                raise Refusal(
                    HTTPStatus.METHOD_NOT_ALLOWED, "There are no sessions to end.", headers=_ALLOW
                )
            session_id = caller.required_session_id()
            if not caller.token:
                raise refusals.unauthenticated(owner.scopes)
            _authorize(await self._resolve(caller, owner, opens_session=False), owner)
            await _answered(self._resolver.revoke(session_id), caller, owner)
        except Refusal as refusal:
            return refusal.response(None, resource_metadata=self._resource_metadata)
        return Response(status_code=HTTPStatus.NO_CONTENT)


@dataclass(frozen=True, slots=True)
class _Caller:
    """What a request's headers say of who is asking."""

    headers: Headers
    token: str
    session_id: str
    version: str

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """
        Raises:
            Refusal: 400 for a header that must be one and is several.
        """
        headers = Headers(scope=scope)
        try:
            token = presented_token(headers.getlist("authorization"))
        except AmbiguousCredentialsError:
            raise refusals.ambiguous_credentials() from None
        version = eras.protocol_version(headers)
        session_ids = headers.getlist(SESSION_ID_HEADER) if eras.has_sessions(version) else []
        if len(session_ids) > 1:
            raise refusals.bad_request("There is more than one Mcp-Session-Id header.")
        return cls(headers, token, "".join(session_ids), version)

    @property
    def in_session_era(self) -> bool:
        """Whether this request goes by a session id; a later one's is ignored."""
        return eras.has_sessions(self.version)

    def required_session_id(self) -> str:
        """
        Raises:
            Refusal: 400 without one. Nothing stands in for it: such requests share nothing.
        """
        if not self.session_id:
            raise refusals.bad_request("The Mcp-Session-Id header is missing.")
        return self.session_id


def _check_shape(caller: _Caller, message: messages.Message) -> bool:
    """Whether the message opens a session.

    Raises:
        Refusal: 400 for a batch where the revision has none, or with ``initialize`` in it.
    """
    if isinstance(message, dict):
        return caller.in_session_era and message.get("method") == "initialize"
    if caller.version != eras.BATCH_VERSION:
        raise refusals.bad_request("Batches are not part of this revision of MCP.")
    if any(method == "initialize" for method, _ in messages.calls(message)):
        raise refusals.bad_request("initialize cannot be part of a batch.")
    return False


def _authorize(resolution: Resolution, needed: Requirement | None) -> None:
    """
    Raises:
        Refusal: 401 without an identity where one is needed, 403 when it lacks a scope.
    """
    if needed is None:
        return
    if resolution.principal is None:
        raise refusals.unauthenticated(needed.scopes)
    if not set(needed.scopes) <= set(resolution.principal.scopes):
        raise refusals.insufficient_scope(needed.scopes)


async def _answered(
    call: Awaitable[ResultT], caller: _Caller, needed: Requirement | None
) -> ResultT:
    """What the resolver answers, its errors made refusals."""
    scopes = needed.scopes if needed else ()
    try:
        return await call
    except AuthError as error:
        unavailable = error.reason.status is Status.UNAVAILABLE
        log.log(
            logging.WARNING if unavailable else logging.INFO,
            "request refused: %s",
            error,
            extra={"reason": error.reason.name, "session": shown(caller.session_id)},
        )
        raise refusals.refusal_of(
            error, in_session=bool(caller.session_id), scopes=scopes
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever breaks in a resolver, nobody gets in
        # The frames without the message: what an unknown exception quotes may be the token.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("the resolver failed: %s\n%s", type(error).__name__, frames)
        raise refusals.internal_error() from None


def _stamped(send: Send, session_id: str) -> Send:
    """A ``send`` that puts the session's id on a 200: the InitializeResult, and no error."""

    async def stamp(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
            MutableHeaders(scope=message)[SESSION_ID_HEADER] = session_id
        await send(message)

    return stamp
