"""The gate: pure ASGI in front of any MCP app. Each request brings its own identity, or has none.

It keeps no state: sessions are authsvc's, and the identity that an app sees was resolved for this
request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.audit.calls import CallAudit
from authsvc.common import arguments
from authsvc.domain.resolution import Resolver
from authsvc.http_auth import anonymous_bodies
from authsvc.http_auth.authorizer import Authorizer
from authsvc.http_auth.headers import SESSION_ID, Headers
from authsvc.http_auth.metadata import is_metadata_path, metadata_path, metadata_url
from authsvc.http_auth.named_calls import DeclaredArguments
from authsvc.http_auth.refusal_log import RefusalLog
from authsvc.http_auth.refusals import no_metadata
from authsvc.http_auth.requirements import RequirementOf, check_function, default_requirement
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions
from mcp_adapter.gate.apps import check_app
from mcp_adapter.gate.bodies import Bodies
from mcp_adapter.gate.call_audit import GateAudit, Serve
from mcp_adapter.gate.framework_users import Identified, Unidentified
from mcp_adapter.gate.lifespan import lifespan_within, opened, resolver_of
from mcp_adapter.gate.list_filter import ListFilter
from mcp_adapter.gate.metadata import metadata_routes
from mcp_adapter.gate.new_sessions import NewSessions
from mcp_adapter.gate.observing import CallObserver
from mcp_adapter.gate.open_paths import OpenPaths, path_in_mount
from mcp_adapter.gate.open_paths import checked as open_paths_checked
from mcp_adapter.gate.posts import Posts
from mcp_adapter.gate.responses import response_of
from mcp_adapter.gate.serving import Serving
from mcp_adapter.gate.session_requests import SessionRequests

_WELL_KNOWN = "/.well-known/"

DEFAULT_MAX_BODY_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_ANONYMOUS_BODY_BYTES = anonymous_bodies.DEFAULT_MAX_BYTES


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
        resolver: decides who calls: an ``AuthClient``, or the address of an authsvc on this
            machine, such as ``127.0.0.1:50051``. As a server's outermost app, the gate opens and
            closes it; elsewhere, enter ``running()``.
        resource: canonical URI of this server, the audience that tokens must name (RFC 8707).
        authorization_servers: issuers of tokens for it. With them the gate serves the metadata by
            which clients find them (RFC 9728), and its challenges name that. Without them they name
            it where ``open_paths`` does, for the app to serve.
        scopes: what tokens may be asked to hold here, for the metadata.
        requirement: what a request needs: a plain function of ``(method, params)`` that returns a
            ``Requirement``, or None for what is open to callers without a token.
        stateful: whether the app keeps sessions of its own.
        streams: whether GET opens a stream of what a stateful app sends by itself.
        open_paths: paths that are passed to the app as they are, such as ``/healthz``: from the
            root of the app, wherever it is mounted.
        max_body_bytes: longest body that is read.
        max_anonymous_body_bytes: longest body that is read before a token is known to be valid.
        body_timeout_seconds: how long a body may take to arrive.
        observer: is called with ``(scope, method, params)`` of each call before it is authorised,
            for metrics and traces: a plain function. The scope has no Authorization header. If it
            raises, the request is answered 500.
        filter_lists: whether the app's lists of tools, prompts and resources are passed on with
            those alone that the caller may call, by ``requirement`` and the token's scopes. A
            client that asks for access only when a call needs it finds what is listed without a
            token.
        audit: gets an event of each call; None for no audit.
        audited_arguments: by tool, the names of its arguments that are in those events: none that
            may hold a secret. Texts and numbers alone are audited.
        credentials: when they are issued: ``with_request``, each request has those of the resource
            without a name; or ``on_demand``, a request has none until a tool asks for some by
            ``caller(request).credentials()``, which works in either case.

    Raises:
        TypeError: an argument is of another type than it says, such as one string where several
            are meant, a framework's server in place of its ASGI app, an ``async`` function as
            ``requirement``, or a resolver without an argument ``credentials`` where they are issued
            on demand.
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
        observer: CallObserver | None = None,
        filter_lists: bool = False,
        audit: CallAudit | None = None,
        audited_arguments: Mapping[str, Sequence[str]] | None = None,
        credentials: Literal["with_request", "on_demand"] = "with_request",
    ) -> None:
        _check(app, requirement, observer, stateful=stateful, streams=streams)
        arguments.instance_of("filter_lists", filter_lists, bool)
        resource = arguments.resource("resource", resource)
        self._metadata = _metadata(resource, authorization_servers, scopes)
        self._metadata_path = metadata_path(resource)
        self._open_paths = _open_paths(app, resource, open_paths, self._metadata)
        # A challenge names no URL that does not answer.
        is_named = self._open_paths.has(self._metadata_path)
        self._app = Identified(app, resource=resource, stateful=stateful)
        self._resolver = resolver_of(resolver)
        self._streams = streams
        sessions = Sessions.ANNOUNCED if stateful else Sessions.MINTED
        max_body_bytes = arguments.positive_integer("max_body_bytes", max_body_bytes)
        self._stateful = stateful
        self._log = RefusalLog()
        resolving = RequestResolver(
            self._resolver, resource, sessions=sessions, on_demand=_is_on_demand(credentials)
        )
        bodies = _bodies(resolving, max_body_bytes, max_anonymous_body_bytes, body_timeout_seconds)
        serving = Serving(
            self._app,
            resolving,
            NewSessions(resolving, stateful=stateful),
            resource_metadata=metadata_url(resource) if is_named else "",
            max_unread_bytes=2 * max_body_bytes,
            refusal_log=self._log,
            lists=ListFilter(requirement, every_response=stateful) if filter_lists else None,
        )
        self._authorizer = Authorizer(
            resolving, requirement=requirement, sessions=sessions, streams=streams
        )
        of_sessions = SessionRequests(self._authorizer, resolving, serving, stateful=stateful)
        self._served: dict[str, Serve] = {
            "POST": Posts(bodies, self._authorizer, serving, observer=observer),
            "DELETE": of_sessions.delete,
            # Where no stream is offered, GET is 405 too (MCP "Listening for Messages").
            **({"GET": of_sessions.get} if streams else {}),
        }
        self._audit = _audit(audit, resource, audited_arguments)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Opens the resolver, and closes it: for the lifespan of an app that mounts the gate."""
        return opened(self._resolver)

    def metadata_routes(self) -> list[BaseRoute]:
        """The routes of the metadata, for the outermost app of a server that mounts the gate.

        Clients ask for it before the path of the mount, where requests do not reach the gate. It is
        the URL that challenges name, with and without a slash at its end; several gates of a server
        have different ones.

        Raises:
            ValueError: the gate has no ``authorization_servers`` to name.
        """
        if not self._metadata:
            raise ValueError("metadata_routes needs a gate with authorization_servers")
        path = self._metadata_path
        return [route for route in self._metadata if route.path in {path, f"{path}/"}]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await lifespan_within(self.running(), self._app, scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = Headers(scope["headers"])
            if headers.raw is not scope["headers"]:
                scope = {**scope, "headers": headers.raw}
            await self._http(scope, headers, receive, send)

    async def _http(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if (open_app := self._open_paths.app_for(scope)) is not None:
            await open_app(scope, receive, send)
            return
        if scope["method"] in {"GET", "HEAD"}:
            self._note_get(scope, headers)
        if is_metadata_path(scope["path"]) or is_metadata_path(path_in_mount(scope)):
            missing = no_metadata().answer(None, resource_metadata="")
            await response_of(missing)(scope, receive, send)
        elif (serve := self._served.get(scope["method"])) is not None:
            if self._audit is None:
                await serve(scope, headers, receive, send)
            else:
                await self._audit.serve(serve, scope, headers, receive, send)
        else:
            response = response_of(self._authorizer.other_method(scope["method"]))
            await response(scope, receive, send)

    def _note_get(self, scope: Scope, headers: Headers) -> None:
        """Log a GET that is refused for every caller, if an argument could change that."""
        path = path_in_mount(scope)
        if _WELL_KNOWN in scope["path"]:
            # Clients look for metadata of an authorization server here, too: that is no fault.
            if self._metadata_path in {path, scope["path"]}:
                self._log.no_metadata(self._metadata_path)
        elif SESSION_ID not in headers and not self._open_paths.may_be_endpoint(scope):
            self._log.closed_path(path)
        elif self._stateful and not self._streams:
            self._log.no_stream()


def _check(
    app: ASGIApp,
    requirement: RequirementOf,
    observer: CallObserver | None,
    *,
    stateful: bool,
    streams: bool,
) -> None:
    """
    Raises:
        TypeError: an argument is of another type.
        ValueError: the options contradict.
    """
    check_app(app)
    check_function(requirement)
    if observer is not None:
        arguments.plain_function("observer", observer, ("scope", "method", "params"))
    arguments.instance_of("stateful", stateful, bool)
    if arguments.instance_of("streams", streams, bool) and not stateful:
        raise ValueError(
            "streams needs stateful=True: an app that keeps no sessions sends nothing by itself"
        )


def _is_on_demand(credentials: str) -> bool:
    """
    Raises:
        ValueError: it is neither.
    """
    if credentials not in {"with_request", "on_demand"}:
        raise ValueError(f"credentials is 'with_request' or 'on_demand', not {credentials!r}")
    return credentials == "on_demand"


def _metadata(
    resource: str, authorization_servers: Sequence[str], scopes: Sequence[str]
) -> list[Route]:
    """The routes of the metadata; none where there are no issuers to name.

    Raises:
        TypeError: one string stands where several are meant.
        ValueError: a scope or issuer is none, or the scopes would be in no metadata.
    """
    routes = metadata_routes(resource, authorization_servers=authorization_servers, scopes=scopes)
    if scopes and not authorization_servers:
        raise ValueError(
            "scopes has no effect without authorization_servers: it is in the metadata alone"
        )
    return routes if authorization_servers else []


def _bodies(
    resolving: RequestResolver, max_bytes: int, max_anonymous_bytes: int, timeout_seconds: float
) -> Bodies:
    """
    Raises:
        TypeError: an argument is no number.
        ValueError: one is not above 0, or has no effect.
    """
    arguments.positive_integer("max_anonymous_body_bytes", max_anonymous_bytes)
    if max_anonymous_bytes > max_bytes and max_anonymous_bytes != DEFAULT_MAX_ANONYMOUS_BODY_BYTES:
        raise ValueError(
            f"max_anonymous_body_bytes has no effect above max_body_bytes = {max_bytes}"
        )
    return Bodies(
        resolving,
        max_bytes=max_bytes,
        max_anonymous_bytes=max_anonymous_bytes,
        timeout_seconds=arguments.positive_number("body_timeout_seconds", timeout_seconds),
    )


def _audit(
    audit: CallAudit | None, resource: str, audited_arguments: Mapping[str, Sequence[str]] | None
) -> GateAudit | None:
    """The audit of a gate; None for none.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``audited_arguments`` has no effect.
    """
    declared = _declared({} if audited_arguments is None else audited_arguments)
    if audit is None:
        if declared:
            raise ValueError("audited_arguments has no effect without audit")
        return None
    audit = arguments.instance_of("audit", audit, CallAudit)
    return GateAudit(audit, resource=resource, declared=declared) if audit.is_on else None


def _declared(audited_arguments: Mapping[str, Sequence[str]]) -> DeclaredArguments:
    """
    Raises:
        TypeError: it is no mapping of texts to several texts.
    """
    arguments.mapping("audited_arguments", audited_arguments)
    return {
        arguments.instance_of("audited_arguments", tool, str): arguments.texts(
            f"audited_arguments[{tool!r}]", names
        )
        for tool, names in audited_arguments.items()
    }


def _open_paths(
    app: ASGIApp, resource: str, open_paths: Sequence[str], metadata: Sequence[Route]
) -> OpenPaths:
    """What is served without a token: the metadata, and the app itself.

    Raises:
        TypeError: one string stands where several are meant.
        ValueError: an open path is none, or one of the metadata's.
    """
    served = {route.path: route.handle for route in metadata}
    paths = open_paths_checked(open_paths, resource=resource, taken=served)
    return OpenPaths(Unidentified(app), paths, metadata=served, resource=resource)
