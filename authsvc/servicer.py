"""The gRPC services: from message to resolver and back. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Never, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext

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


class AuthServicer(pb_grpc.AuthServiceServicer):
    """``authsvc.v1.AuthService`` over a resolver."""

    def __init__(self, resolver: SessionResolver, callers: Callers, usages: Usages) -> None:
        self._resolver = resolver
        self._callers = callers
        self._usages = usages

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
        with self._admitted(context, request.resource) as caller:
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
        with self._admitted(context, request.resource) as caller:
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
        with self._admitted(context) as caller:
            await self._resolver.revoke(
                request.session_id, resources=caller.resources, caller=caller.name
            )
        return Empty()

    @contextmanager
    def _admitted(self, context: Context, resource: str | None = None) -> Iterator[Caller]:
        """The caller, while it has a call in flight.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, RESOURCE_INVALID or OVERLOADED.
        """
        caller = identified(self._callers, context)
        if resource is not None:
            with audited(caller, resource):
                caller.authorize(resource)
        with self._usages.of(caller.name).call():
            yield caller


class SessionAdminServicer(pb_grpc.SessionAdminServiceServicer):
    """``authsvc.v1.SessionAdminService``, for operators. Not served yet: each RPC says so."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

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
        await _guarded(self._authorize(context), context)
        await _unimplemented(f"SessionAdminService.{method}", context)

    async def _authorize(self, context: Context) -> None:
        caller = identified(self._callers, context)
        with audited(caller):
            caller.authorize_admin()


def identified(callers: Callers, context: Context) -> Caller:
    """Who is calling, by the connection's certificate or the call's service token.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    names = context.auth_context().get("x509_subject_alternative_name", ())
    presented = [
        value for key, value in context.invocation_metadata() or () if key == "authorization"
    ]
    scheme, _, service_token = str(presented[0] if presented else "").partition(" ")
    token = service_token.strip() if scheme.lower() == "bearer" else ""
    if len(presented) > 1:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "two service tokens")
    proven = [name.decode("utf-8", "replace") for name in names]
    try:
        return callers.identify(proven, token)
    except AuthError as error:
        audit.refused(error, caller=", ".join(proven))
        raise


@contextmanager
def audited(caller: Caller, resource: str = "") -> Iterator[None]:
    """Write down what a caller is refused inside."""
    try:
        yield
    except AuthError as error:
        audit.refused(error, caller=caller.name, resource=resource[:200])
        raise


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
