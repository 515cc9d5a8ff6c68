"""The gRPC services: from message to resolver and back. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Never, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha._async import ReflectionServicer

from authsvc import audit, wire
from authsvc.callers import Caller, Callers
from authsvc.errors import AuthError, Reason
from authsvc.limits import Usages
from authsvc.resolver import SessionResolver
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT")
Context = ServicerContext[Any, Any]

STRANGER = ""
"""The name of whoever has not proven who it is."""


class Edge:
    """Who passes: the caller of each RPC is identified, rationed, and written down if refused.

    Args:
        callers: who is registered.
        usages: what each may ask for.
    """

    def __init__(self, callers: Callers, usages: Usages) -> None:
        self._callers = callers
        self._usages = usages

    @contextmanager
    def admitted(
        self, context: Context, authorize: Callable[[Caller], None], *, resource: str = ""
    ) -> Iterator[Caller]:
        """The caller, while it has a call in flight.

        Args:
            context: of the call.
            authorize: refuses a caller that may not make this call.
            resource: what the call is about.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, OVERLOADED, or what ``authorize`` raises.
        """
        with self._audited(STRANGER, context):
            caller = identified(self._callers, context)
        with (
            self._usages.of(caller.name).call(),
            self._audited(caller.name, context, resource),
        ):
            authorize(caller)
            yield caller

    async def admit(self, context: Context) -> None:
        """Abort the call unless its caller is known."""
        await _guarded(self._admit(context), context)

    async def _admit(self, context: Context) -> None:
        with self.admitted(context, _anybody_known):
            pass

    @contextmanager
    def _audited(self, caller: str, context: Context, resource: str = "") -> Iterator[None]:
        try:
            yield
        except AuthError as error:
            is_event = error.reason is Reason.CALLER_NOT_ALLOWED
            if is_event and self._usages.of(caller).may_record():
                audit.caller_refused(
                    error, caller=caller, peer=str(context.peer()), resource=resource[:200]
                )
            raise


class AuthServicer(pb_grpc.AuthServiceServicer):
    """``authsvc.v1.AuthService`` over a resolver."""

    def __init__(self, resolver: SessionResolver, edge: Edge) -> None:
        self._resolver = resolver
        self._edge = edge

    async def ResolveSession(  # noqa: N802 - gRPC's name
        self, request: pb.ResolveSessionRequest, context: Context
    ) -> pb.ResolveSessionResponse:
        """See ``auth.proto``."""
        return await _guarded(self._resolve(request, context), context)

    async def CreateSession(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """See ``auth.proto``."""
        return await _guarded(self._create(request, context), context)

    async def RevokeSession(  # noqa: N802 - gRPC's name
        self, request: pb.RevokeSessionRequest, context: Context
    ) -> Empty:
        """See ``auth.proto``."""
        return await _guarded(self._revoke(request, context), context)

    # grpc.aio takes a coroutine that writes as well as an iterator; the stubs know the latter.
    async def ResolveSessionStream(  # type: ignore[override] # noqa: N802 - gRPC's name
        self, request_iterator: object, context: Context
    ) -> Never:
        """Not served yet."""
        await _unimplemented("AuthService.ResolveSessionStream", context)

    async def _resolve(
        self, request: pb.ResolveSessionRequest, context: Context
    ) -> pb.ResolveSessionResponse:
        with self._for_resource(context, request.resource) as caller:
            resolution = await self._resolver.resolve(
                request.session_id,
                request.token,
                resource=request.resource,
                create=request.create,
                caller=caller.name,
            )
        return wire.response_message(resolution)

    async def _create(
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        with self._for_resource(context, request.resource) as caller:
            resolution = await self._resolver.create(
                request.token, resource=request.resource, caller=caller.name
            )
        answer = wire.response_message(resolution)
        return pb.CreateSessionResponse(
            session=answer.session,
            principal=answer.principal if answer.HasField("principal") else None,
            credentials=answer.credentials if answer.HasField("credentials") else None,
        )

    async def _revoke(self, request: pb.RevokeSessionRequest, context: Context) -> Empty:
        with self._edge.admitted(context, Caller.authorize_service) as caller:
            await self._resolver.revoke(
                request.session_id, resources=caller.resources, caller=caller.name
            )
        return Empty()

    def _for_resource(self, context: Context, resource: str) -> AbstractContextManager[Caller]:
        return self._edge.admitted(
            context, lambda caller: caller.authorize(resource), resource=resource
        )


class SessionAdminServicer(pb_grpc.SessionAdminServiceServicer):
    """``authsvc.v1.SessionAdminService``, for operators. Not served yet: each RPC says so."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def GetSession(self, request: object, context: Context) -> Never:  # noqa: N802
        """Not served yet."""
        await self._unserved("GetSession", context)

    async def ListSessions(self, request: object, context: Context) -> Never:  # noqa: N802
        """Not served yet."""
        await self._unserved("ListSessions", context)

    async def RevokeSessions(self, request: object, context: Context) -> Never:  # noqa: N802
        """Not served yet."""
        await self._unserved("RevokeSessions", context)

    async def WatchSessions(  # type: ignore[override] # noqa: N802 - see ResolveSessionStream
        self, request: object, context: Context
    ) -> Never:
        """Not served yet."""
        await self._unserved("WatchSessions", context)

    async def _unserved(self, method: str, context: Context) -> Never:
        await _guarded(self._authorize(method, context), context)
        await _unimplemented(f"SessionAdminService.{method}", context)

    async def _authorize(self, method: str, context: Context) -> None:
        with self._edge.admitted(context, Caller.authorize_admin) as caller:
            audit.admin_act(method, caller=caller.name, peer=str(context.peer()))


class GuardedHealthServicer(HealthServicer):
    """``grpc.health.v1.Health``: whoever asks is told; only a known caller may stay and watch.

    A watch lasts, and counts against what the server does at once.
    """

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self._edge = edge

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """See ``grpc.health.v1.Health.Watch``."""
        await self._edge.admit(context)
        await super().Watch(request, context)


class GuardedReflectionServicer(ReflectionServicer):
    """``grpc.reflection.v1alpha.ServerReflection``, for known callers."""

    def __init__(self, edge: Edge, service_names: Iterable[str]) -> None:
        super().__init__(service_names)
        self._edge = edge

    async def ServerReflectionInfo(  # type: ignore[override] # noqa: N802 - stubs: no generator
        self, request_iterator: AsyncIterable[Any], context: Context
    ) -> AsyncIterator[Any]:
        """See ``grpc.reflection.v1alpha.ServerReflection``."""
        await self._edge.admit(context)
        answers: Any = super().ServerReflectionInfo(request_iterator, context)
        async for answer in answers:
            yield answer


def identified(callers: Callers, context: Context) -> Caller:
    """Who is calling, by the connection's certificate or the call's service token.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    presented = [
        value for key, value in context.invocation_metadata() or () if key == "authorization"
    ]
    if len(presented) > 1:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "two service tokens")
    scheme, _, service_token = str(presented[0] if presented else "").partition(" ")
    token = service_token.strip() if scheme.lower() == "bearer" else ""
    return callers.identify(certificate_names(context.auth_context()), token)


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The DNS and URI names of a client certificate that the connection has proven.

    Each kind by its own: a DNS or mail name that spells a URI is not that URI.
    """
    uris = [name.decode("utf-8", "replace") for name in auth_context.get("peer_uri", ())]
    hosts = [name.decode("utf-8", "replace") for name in auth_context.get("peer_dns", ())]
    return [name for name in uris if ":" in name] + [name for name in hosts if ":" not in name]


def _anybody_known(caller: Caller) -> None:
    """Authorise every caller that is identified at all."""


async def _guarded(work: Awaitable[ResponseT], context: Context) -> ResponseT:
    """The edge: every error becomes a status here, and nothing else leaves the process."""
    try:
        return await work
    except AuthError as error:
        status = wire.status_of(error)
        await context.abort(
            grpc.StatusCode[error.reason.status],
            status.message,
            trailing_metadata=((wire.STATUS_DETAILS_KEY, status.SerializeToString()),),
        )
    except Exception:
        # Whatever went wrong stays in the log; the caller is told nothing of it, and gets nothing.
        log.exception("a request failed unexpectedly")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")


async def _unimplemented(method: str, context: Context) -> Never:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"authsvc.v1.{method} is not served by this version"
    )
