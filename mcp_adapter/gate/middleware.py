"""The gate: pure ASGI in front of any MCP app. Each request brings its own identity, or has none.

It keeps no state: sessions are authsvc's, and the identity that an app sees is the one that came
back for this very request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Self, TypeVar

from mcp_types import RequestId
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.common import arguments
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, Reason, Status
from authsvc.domain.resolution import NotOpenError, Outcome, Resolution, Resolver, shown
from mcp_adapter.gate import eras, forwarding, lingering, messages, refusals, session_ids
from mcp_adapter.gate.apps import check_app
from mcp_adapter.gate.bearer import AmbiguousCredentialsError, presented_token
from mcp_adapter.gate.framework_users import Identified, Unidentified
from mcp_adapter.gate.lifespan import lifespan_within, opened, resolver_of
from mcp_adapter.gate.metadata import metadata_routes, metadata_url
from mcp_adapter.gate.open_paths import checked as open_paths_checked
from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.requirements import (
    Requirement,
    RequirementOf,
    check_function,
    default_requirement,
    required,
    union,
)
from mcp_adapter.gate.throttling import Pace, Rarely
from mcp_adapter.gate.watching import Check, Watched
from mcp_adapter.gate.whitespace import trimmed

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

DEFAULT_MAX_BODY_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_ANONYMOUS_BODY_BYTES = 64 * 1024

SHORT_BODY_BYTES = 4 * 1024
"""Longer bodies are paced where there is no valid token: without a token before they are parsed,
with one before it is refused. A shorter one takes little beside what any request takes."""

PACED_INTERVAL_SECONDS = 0.01
"""From one paced request to the next, so that a flood of them takes little."""

PACED_MAX_SECONDS = 2.0
"""Longest that a paced request waits."""

_PACED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED}
"""What a token is refused with that may wait. Others are answers to valid tokens, too: an outage, a
limit, a session that has ended. All 404 are alike in time, so that it tells nothing of sessions."""

_OWNER = Requirement()
"""What it takes to be a session's owner: a valid token of its subject."""

WARNING_INTERVAL_SECONDS = 1.0
"""From one warning with a reason to the next; what comes between them is logged as information."""

_MISCONFIGURED = {Reason.CALLER_NOT_ALLOWED, Reason.RESOURCE_INVALID}
"""What no client can cause: this server is not set up at authsvc as it should be."""

_APPS_OWN_FAULT = {
    reason.name
    for reason in (
        Reason.SESSION_ID_INVALID,
        Reason.SESSION_NOT_FOUND,
        Reason.SESSION_EXPIRED,
        Reason.SESSION_REVOKED,
        Reason.SESSION_SUBJECT_MISMATCH,
    )
}
"""Why a session id that an app has minted is not adopted, whoever the client is."""


class SessionGate:
    """Authorises each request of an MCP endpoint, and gives it its identity.

    The app behind it finds in ``scope["state"]``, which is ``request.state``:

    - ``resolution``: the ``authsvc.domain.resolution.Resolution`` of this request;
    - ``mcp_message``: the parsed JSON-RPC message, or batch of them.

    In ``scope["user"]`` and ``scope["auth"]`` it finds what Starlette, the official SDK and FastMCP
    look for; the SDK's ``get_access_token()`` and FastMCP's find it too.

    It does not find the Authorization header: a client's token goes no further than the gate.

    Two kinds of apps go by sessions of MCP. One that keeps none is given sessions by authsvc. One
    that keeps its own (``stateful``) has the ids that it mints adopted from its answers to
    ``initialize``, and its sessions are served to their owners alone: a message without a token
    could take another's answer by using its request's id, or answer in another's name.

    A response that streams, on any method, ends within a second of its caller's token, session or
    access, and does not begin after it; an answer that comes in one piece is finished, however long
    it takes.

    Args:
        app: an ASGI app that serves MCP over Streamable HTTP.
        resolver: decides who is asking: an ``AuthClient``, or where on this machine authsvc is,
            such as ``127.0.0.1:50051``. As a server's outermost app, the gate opens and closes it;
            elsewhere, enter ``running()``.
        resource: canonical URI of this server, the audience that tokens must name (RFC 8707).
        authorization_servers: issuers of tokens for it. With them the gate serves the metadata by
            which clients find them (RFC 9728).
        scopes: what tokens may be asked to hold here, for the metadata.
        requirement: what a request needs: a plain function of ``(method, params)`` that returns a
            ``Requirement``, or None for what is open to callers without a token.
        stateful: whether the app keeps sessions of its own.
        streams: whether GET opens a stream of what a stateful app sends by itself.
        open_paths: paths that are passed to the app as they are, such as ``/healthz``.
        max_body_bytes: longest body that is read.
        max_anonymous_body_bytes: longest body that is read before a token is known to be valid.
        body_timeout_seconds: how long a body may take to arrive.

    Raises:
        TypeError: an argument is of another type than it says, such as one string where several
            are meant, a framework's server in place of its ASGI app, or an ``async`` function as
            ``requirement``.
        ValueError: ``resource`` is not canonical, a scope, issuer or open path is none, a number
            is not above 0; the address is none, or not on this machine; or the options contradict.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolver: Resolver | str,
        resource: str,
        authorization_servers: Sequence[str] = (),
        scopes: Sequence[str] = (),
        requirement: RequirementOf = default_requirement,
        stateful: bool = False,
        streams: bool = False,
        open_paths: Sequence[str] = (),
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        max_anonymous_body_bytes: int = DEFAULT_MAX_ANONYMOUS_BODY_BYTES,
        body_timeout_seconds: float = 30.0,
    ) -> None:
        check_app(app)
        arguments.resource("resource", resource)
        check_function(requirement)
        arguments.instance_of("stateful", stateful, bool)
        if arguments.instance_of("streams", streams, bool) and not stateful:
            raise ValueError(
                "streams needs stateful=True: an app that keeps no sessions sends nothing by itself"
            )
        routes = metadata_routes(
            resource, authorization_servers=authorization_servers, scopes=scopes
        )
        metadata = [route.path for route in routes] if authorization_servers else []
        without_token = open_paths_checked(open_paths, resource=resource, taken=metadata)
        self._app = Identified(app, resource=resource, stateful=stateful)
        self._resolver = resolver_of(resolver)
        self._resource = resource
        self._resource_metadata = metadata_url(resource)
        self._requirement = requirement
        self._stateful = stateful
        self._is_told_stateless = False
        self._streams = streams
        self._max_body_bytes = arguments.positive_integer("max_body_bytes", max_body_bytes)
        self._max_anonymous_body_bytes = arguments.positive_integer(
            "max_anonymous_body_bytes", max_anonymous_body_bytes
        )
        # Two, so that a flood of the one kind does not hold up the other.
        self._anonymous_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)
        self._token_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS)
        self._body_timeout_seconds = arguments.positive_number(
            "body_timeout_seconds", body_timeout_seconds
        )
        methods = ("GET", "POST", "DELETE", "OPTIONS") if streams else ("POST", "DELETE", "OPTIONS")
        self._allow = {"Allow": ", ".join(methods)}
        self._open: dict[str, ASGIApp] = dict.fromkeys(without_token, Unidentified(app))
        self._open |= dict.fromkeys(metadata, Router(routes))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Opens the resolver, and closes it: for the lifespan of an app that mounts the gate."""
        return opened(self._resolver)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await lifespan_within(self.running(), self._app, scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(trimmed(scope), receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (open_app := self._open.get(scope["path"])) is not None:
            await open_app(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        elif scope["method"] == "DELETE":
            await self._delete(scope, receive, send)
        elif scope["method"] == "GET" and self._streams:
            await self._get(scope, receive, send)
        else:
            # No stream is offered, so GET is 405 too (MCP "Listening for Messages").
            is_options = scope["method"] == "OPTIONS"
            status = HTTPStatus.NO_CONTENT if is_options else HTTPStatus.METHOD_NOT_ALLOWED
            await Response(status_code=status, headers=self._allow)(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, body = None, b""
        try:
            try:
                caller = _Caller.of(scope)
            except Refusal:
                request_id = await self._request_id(scope, receive)
                raise
            body = await self._body(caller, receive)
            message = messages.parse(body)
            request_id = messages.request_id_of(message)
            forwarding.check_message(caller.version, message)
            opens_session = _check_shape(caller, message)
            needed = self._needed(caller, message, opens_session=opens_session)
            resolution = await self._resolve(caller, needed, opens_session=opens_session)
            _authorize(resolution, needed)
            forwarding.check_routing(caller.headers, caller.version, message)
        except Refusal as refusal:
            if len(body) > SHORT_BODY_BYTES and caller.token and not caller.is_verified:
                self._have_paced(refusal)
            body, message = b"", {}  # not held while the answer waits
            await self._refuse(request_id, scope, receive, send, refusal)
            return
        except ClientDisconnect:
            return
        # An initialize opens a session of its own: it does not reach one that it names.
        inner = _inner(scope, caller, resolution, body, in_session=not opens_session)
        inner["state"]["mcp_message"] = message
        receive = messages.replay(body, receive)
        if not opens_session:
            check = partial(self._check, caller, needed, resolution, caller.session_id)
            await self._serve(caller, check, resolution, inner, receive, send, request_id)
            return
        refuse = partial(self._refuse, request_id, scope, receive, send)
        watched = Watched(
            send,
            lambda: self._check(caller, needed, resolution, opening.session_id),
            refuse,
            request_id,
            is_repeatable=True,
            whose=lambda: _whose(opening.session_id, resolution),
        )
        opening = session_ids.Opening(
            watched.send,
            partial(self._session_id, caller, resolution),
            refuse,
        )
        await watched.serve(self._app, inner, receive, opening)

    async def _request_id(self, scope: Scope, receive: Receive) -> RequestId | None:
        """The id of a request whose headers are refused: its error bears it (JSON-RPC 2.0 section
        5). Nobody's token is verified for it, so a body that would need one is not parsed, and
        longer ones are parsed at a bounded rate.

        Raises:
            ClientDisconnect: the client left.
        """
        try:
            body = await messages.read_body(
                receive,
                Headers(scope=scope),
                max_bytes=self._max_anonymous_body_bytes,
                timeout_seconds=self._body_timeout_seconds,
            )
            await self._wait_with(body, receive)
            if messages.has_many_values(body):
                return None
            return messages.request_id_of(messages.parse(body))
        except Refusal:
            return None

    async def _body(self, caller: _Caller, receive: Receive) -> bytes:
        """A request's body, its token verified first if that is much to read or to parse. Without
        a token, what is not short waits for its turn.

        Raises:
            Refusal: nothing more is read.
            ClientDisconnect: the client left.
        """
        allowance = messages.Allowance(
            self._max_anonymous_body_bytes, partial(self._verify, caller)
        )
        body = await messages.read_body(
            receive,
            caller.headers,
            max_bytes=self._max_body_bytes,
            timeout_seconds=self._body_timeout_seconds,
            allowance=allowance,
        )
        await allowance.check_values(body)
        if not caller.token:
            await self._wait_with(body, receive)
        return body

    async def _wait_with(self, body: bytes, receive: Receive) -> None:
        """Before a body that is not short is parsed for anybody.

        Raises:
            ClientDisconnect: the client left.
        """
        if len(body) > SHORT_BODY_BYTES:
            await self._anonymous_pace.wait_while_connected(receive)

    def _have_paced(self, refusal: Refusal) -> None:
        """Have a refusal of a token wait for its turn, where no valid one gets it."""
        if refusal.status in _PACED:
            refusal.pace = self._token_pace

    async def _verify(self, caller: _Caller) -> None:
        """
        Raises:
            Refusal: a request may have no body that is long, or holds many values.
        """
        # Without a session it is an initialize, and to open one is not to verify.
        is_outside = caller.in_session_era and not caller.session_id
        if is_outside or not caller.token:
            raise refusals.anonymous_body(
                self._max_anonymous_body_bytes, self._anonymous_pace, token_helps=not is_outside
            )
        try:
            await self._resolve(caller, None, opens_session=False)
        except Refusal as refusal:
            self._have_paced(refusal)
            refusal.headers["Connection"] = "close"  # as the rest of the body is not read
            raise

    async def _serve(
        self,
        caller: _Caller,
        check: Check,
        resolution: Resolution,
        inner: Scope,
        receive: Receive,
        send: Send,
        request_id: RequestId | None = None,
    ) -> None:
        """Have the app serve a request that opens no session, for as long as its caller may."""
        watched = Watched(
            send,
            check,
            partial(self._refuse, request_id, inner, receive, send),
            request_id,
            whose=partial(_whose, caller.session_id, resolution),
        )
        bounded = session_ids.Bounded(watched.send, caller.session_id)
        await watched.serve(self._app, inner, receive, bounded)

    async def _refuse(
        self,
        request_id: RequestId | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        refusal: Refusal,
    ) -> None:
        refusal.drop_frames()
        try:
            await _wait_for_turn(refusal, receive)
        except ClientDisconnect:
            return
        answer = refusal.response(request_id, resource_metadata=self._resource_metadata)
        if refusal.leaves_body_unread:
            most = 2 * self._max_body_bytes
            await lingering.respond(answer, scope, receive, send, max_bytes=most)
        else:
            await answer(scope, receive, send)

    def _needed(
        self, caller: _Caller, message: messages.Message, *, opens_session: bool
    ) -> Requirement | None:
        """What a message needs of its caller; None when it is open."""
        needed = union(required(self._requirement, *call) for call in messages.calls(message))
        if needed is not None or not self._stateful or not caller.in_session_era:
            return needed
        return None if opens_session or _completes_initialize(message) else _OWNER

    async def _resolve(
        self, caller: _Caller, needed: Requirement | None, *, opens_session: bool
    ) -> Resolution:
        """Who is asking. A token that is refused is refused for open methods too."""
        resolver, resource = self._resolver, self._resource
        # The session of a stateful app stands once it has answered.
        if not caller.in_session_era or (opens_session and self._stateful):
            ask = partial(resolver.resolve, "", caller.token, resource=resource)
        elif opens_session:
            ask = partial(resolver.create, caller.token, resource=resource)
        else:
            session_id = caller.required_session_id()
            ask = partial(resolver.resolve, session_id, caller.token, resource=resource)
        resolution = await self._answered(ask, caller, needed)
        caller.is_verified = resolution.principal is not None
        return resolution

    async def _check(
        self,
        caller: _Caller,
        needed: Requirement | None,
        admitted: Resolution,
        session_id: str,
    ) -> None:
        """Whether a stream's caller may still have it.

        Args:
            caller: whose stream it is.
            needed: what the request needs.
            admitted: what the request was served by.
            session_id: of the session that the stream ends with; empty for none.

        Raises:
            Refusal: it may not.
        """
        if not session_id and not caller.token:
            return  # it is nobody's, and so nobody's end is its own
        ask = partial(self._resolver.resolve, session_id, caller.token, resource=self._resource)
        whose = _whose(session_id, admitted)
        _authorize(await self._answered(ask, caller, needed, whose), needed)

    async def _answered(
        self,
        ask: Callable[[], Awaitable[ResultT]],
        caller: _Caller,
        needed: Requirement | None,
        whose: Mapping[str, str] | None = None,
    ) -> ResultT:
        """What the resolver answers, its errors made refusals.

        Args:
            ask: calls the resolver.
            caller: who is asking.
            needed: what the request needs.
            whose: fields of the log line, where more is known than the caller names.

        Raises:
            Refusal: it answers with an error.
        """
        try:
            return await ask()
        except AuthError as error:
            fields = _whose(caller.session_id) if whose is None else whose
            log.log(
                self._level_of(error.reason),
                "request refused: %s",
                error,
                extra={"reason": error.reason.name, **fields},
            )
            scopes = needed.scopes if needed else ()
            raise refusals.refusal_of(
                error, in_session=bool(caller.session_id), scopes=scopes
            ) from None
        except NotOpenError:
            if self._warnings.may_pass(NotOpenError):
                log.error(
                    "the gate is not open, so requests are answered 503: enter gate.running() in "
                    "your app's lifespan, or have the server send lifespan events"
                )
            raise refusals.service_unavailable() from None
        except Exception as error:  # noqa: BLE001 - whatever breaks in a resolver, nobody gets in
            log_unexpected(log, "the resolver failed", error)
            raise refusals.internal_error() from None

    def _level_of(self, reason: Reason) -> int:
        """A warning for what the operator has to mend, at a bounded rate; a caller sets the rate of
        the others."""
        is_ours = reason.status is Status.UNAVAILABLE or reason in _MISCONFIGURED
        return logging.WARNING if is_ours and self._warnings.may_pass(reason) else logging.INFO

    async def _session_id(self, caller: _Caller, resolution: Resolution, theirs: str) -> str:
        """The id that the answer to an ``initialize`` bears; ``theirs`` is the app's.

        Raises:
            Refusal: there is to be no session.
        """
        if self._stateful:
            if theirs:
                await self._adopt(theirs, caller)
            elif not self._is_told_stateless:
                self._is_told_stateless = True
                log.warning(
                    "the app has answered an initialize without an Mcp-Session-Id, so its client "
                    "has no session: make the app stateful, or leave out stateful=True"
                )
            return theirs
        if theirs:
            log.error("the app keeps sessions: make it stateless, or the gate stateful")
            raise refusals.internal_error()
        return resolution.session.id if resolution.session else ""

    async def _adopt(self, session_id: str, caller: _Caller) -> None:
        """Make the app's session one of authsvc's, owned by whoever opened it."""
        ask = partial(
            self._resolver.resolve, session_id, caller.token, resource=self._resource, create=True
        )
        try:
            resolution = await self._answered(ask, caller, None, _whose(session_id))
        except Refusal as refusal:
            if refusal.reason not in _APPS_OWN_FAULT:
                raise
            resolution = Resolution()
        if resolution.outcome is not Outcome.CREATED:
            # One that exists is somebody's: two clients would share what is one's alone.
            log.error("the app minted a session id that cannot be had: %s", shown(session_id))
            raise refusals.internal_error()

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a stream of what the app sends by itself, for the session's owner alone."""
        try:
            caller, resolution = await self._owner(scope)
        except Refusal as refusal:
            await self._refuse(None, scope, receive, send, refusal)
            return

        inner = _inner(scope, caller, resolution)
        check = partial(self._check, caller, _OWNER, resolution, caller.session_id)
        await self._serve(caller, check, resolution, inner, forwarding.without_body(receive), send)

    async def _delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End a session, for its owner alone: at authsvc, and then at an app that has it too."""
        try:
            caller, resolution = await self._owner(scope)
            ask = partial(self._resolver.revoke, caller.session_id)
            await self._answered(ask, caller, _OWNER, _whose(caller.session_id, resolution))
        except Refusal as refusal:
            await self._refuse(None, scope, receive, send, refusal)
            return
        if self._stateful:
            inner = _inner(scope, caller, resolution)
            # The session has just ended, by this request: its answer ends with the token alone.
            check = partial(self._check, caller, _OWNER, resolution, "")
            receive = forwarding.without_body(receive)
            await self._serve(caller, check, resolution, inner, receive, send)
        else:
            await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)

    async def _owner(self, scope: Scope) -> tuple[_Caller, Resolution]:
        """The session's owner, who asks about the session as a whole.

        Raises:
            Refusal: it is somebody else, or there are no sessions.
        """
        caller = _Caller.of(scope)
        if not caller.in_session_era:
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "This revision of MCP has no sessions.",
                headers=self._allow,
            )
        caller.required_session_id()
        if not caller.token:
            raise refusals.unauthenticated(_OWNER.scopes)
        resolution = await self._resolve(caller, _OWNER, opens_session=False)
        _authorize(resolution, _OWNER)
        return caller, resolution


@dataclass(slots=True, repr=False)
class _Caller:
    """What a request's headers say of who is asking.

    Attributes:
        headers: all of them.
        token: the bearer token; empty without one.
        session_id: the session that is named; empty without one, or outside the era of sessions.
        version: the revision of MCP.
        is_verified: whether the token was found to be valid.
    """

    headers: Headers
    token: str
    session_id: str
    version: str
    is_verified: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """
        Raises:
            Refusal: 400 for a header that must be one and is several, and for a revision of MCP
                that is not known.
        """
        headers = Headers(scope=scope)
        forwarding.check_headers(headers)
        try:
            token = presented_token(headers.getlist("authorization"))
        except AmbiguousCredentialsError:
            raise refusals.ambiguous_credentials() from None
        version = eras.protocol_version(headers)
        named = headers.get(session_ids.HEADER, "") if eras.has_sessions(version) else ""
        return cls(headers, token, named, version)

    @property
    def in_session_era(self) -> bool:
        """Whether this request goes by a session id; a later one's is dropped."""
        return eras.has_sessions(self.version)

    def required_session_id(self) -> str:
        """
        Raises:
            Refusal: 400 without one. Nothing stands in for it: such requests share nothing.
        """
        if not self.session_id:
            raise refusals.bad_request("The Mcp-Session-Id header is missing.")
        return self.session_id


async def _wait_for_turn(refusal: Refusal, receive: Receive) -> None:
    """
    Raises:
        ClientDisconnect: the client left.
    """
    if refusal.pace is None:
        return
    if refusal.leaves_body_unread:
        # To see whether the client is there would be to ask for its body.
        await refusal.pace.wait()
    else:
        await refusal.pace.wait_while_connected(receive)


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


def _completes_initialize(message: messages.Message) -> bool:
    """Whether a message is the notification that follows upon ``initialize``, and no request."""
    return (
        isinstance(message, dict)
        and message.get("method") == "notifications/initialized"
        and "id" not in message
    )


def _authorize(resolution: Resolution, needed: Requirement | None) -> None:
    """
    Raises:
        Refusal: 401 without an identity where one is needed, 403 when it lacks a scope.
    """
    if needed is None:
        return
    if resolution.principal is None:
        raise refusals.unauthenticated(needed.scopes)
    if not needed.met_by(resolution.principal.scopes):
        raise refusals.insufficient_scope(needed.scopes)


def _whose(session_id: str, resolution: Resolution | None = None) -> dict[str, str]:
    """Fields of a log line: the session, as logs show it, and its subject; empty where unknown."""
    principal = resolution.principal if resolution is not None else None
    return {
        "session": shown(session_id) if session_id else "",
        "subject": principal.subject if principal is not None else "",
    }


def _inner(
    scope: Scope,
    caller: _Caller,
    resolution: Resolution,
    body: bytes | None = None,
    *,
    in_session: bool = True,
) -> Scope:
    """The scope as the app sees it: with the identity, without the token."""
    headers = forwarding.forwarded(
        scope,
        session_id=caller.session_id if in_session else "",
        version=caller.version,
        body=body,
    )
    state: dict[str, Any] = {**scope.get("state", {}), "resolution": resolution}
    return {**scope, "state": state, "headers": headers}
