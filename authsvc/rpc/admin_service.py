"""``authsvc.v1.SessionAdminService``: translates between messages and ``SessionAdmin``. Decides
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import Message

from authsvc.access.callers import Caller
from authsvc.admin.sessions import SessionAdmin
from authsvc.admin.watches import Watch
from authsvc.rpc.admission import Admission
from authsvc.rpc.admitted_stream import AdmittedStream
from authsvc.rpc.errors import ends_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.registration import service_handlers
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import admin as admin_wire
from authsvc.wire import signals as signals_wire
from authsvc.wire.revocation import target_of

SERVICE = pb.DESCRIPTOR.services_by_name["SessionAdminService"]


class SessionAdminServicer(pb_grpc.SessionAdminServiceServicer):
    """``SessionAdminService``, for operators alone."""

    def __init__(self, admin: SessionAdmin, admission: Admission) -> None:
        self._admin = admin
        self._admission = admission

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return service_handlers(SERVICE, self)

    @ends_with_status
    async def GetSession(  # noqa: N802 - gRPC's name
        self, request: pb.GetSessionRequest, context: Context
    ) -> pb.GetSessionResponse:
        """See ``auth.proto``."""
        with self._operator("GetSession", context, request):
            record = await self._admin.sessions.get(request.session_id)
        return pb.GetSessionResponse(session=admin_wire.record_message(record))

    @ends_with_status
    async def ListSessions(  # noqa: N802 - gRPC's name
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """See ``auth.proto``."""
        continues = bool(request.page_token)
        with self._operator("ListSessions", context, request.filter, continues=continues):
            listing = await self._admin.sessions.page(
                admin_wire.filter_of(request.filter),
                size=request.page_size,
                page_token=request.page_token,
            )
        return pb.ListSessionsResponse(
            sessions=map(admin_wire.record_message, listing.records),
            next_page_token=listing.next_page_token,
        )

    @ends_with_status
    async def RevokeSessions(  # noqa: N802 - gRPC's name
        self, request: pb.RevokeSessionsRequest, context: Context
    ) -> pb.RevokeSessionsResponse:
        """See ``auth.proto``."""
        with self._operator("RevokeSessions", context, request) as caller:
            revocation = await self._admin.revocations.revoke(
                target_of(request),
                caller=caller.name,
                allow_unknown_issuer=request.allow_unknown_issuer,
            )
        return pb.RevokeSessionsResponse(
            revoked_session_count=revocation.session_count,
            consistency_token=revocation.consistency_token,
        )

    @ends_with_status
    async def GetServiceStatus(  # noqa: N802 - gRPC's name
        self, request: pb.GetServiceStatusRequest, context: Context
    ) -> pb.GetServiceStatusResponse:
        """See ``auth.proto``."""
        with self._operator("GetServiceStatus", context, request):
            status = await self._admin.status.read(count_sessions=request.count_sessions)
        return admin_wire.status_message(status)

    @ends_with_status
    async def ListSignalStreams(  # noqa: N802 - gRPC's name
        self, request: pb.ListSignalStreamsRequest, context: Context
    ) -> pb.ListSignalStreamsResponse:
        """See ``auth.proto``."""
        with self._operator("ListSignalStreams", context, request):
            streams = await self._admin.signal_streams()
        return signals_wire.streams_message(streams)

    # grpc.aio takes a coroutine that writes as well as an iterator; the stubs know the latter. It
    # ends, and closes the log, as soon as the client is gone.
    @ends_with_status
    async def WatchSessions(  # type: ignore[override] # noqa: N802 - gRPC's name
        self, request: pb.WatchSessionsRequest, context: Context
    ) -> None:
        """See ``auth.proto``."""
        with self._admission.stream(context, Caller.authorize_admin) as stream:
            method = "WatchSessions; resumed" if request.resume_token else "WatchSessions"
            self._audit(method, context, stream.caller, request)
            which = admin_wire.filter_of(request.filter)
            async with self._admin.watches.watching(
                which, resume_token=request.resume_token
            ) as watch:
                # Before any event: the client learns that the watch is open, and where to resume
                # if the stream breaks before the first event.
                begun_at = ((admin_wire.RESUME_TOKEN_KEY, watch.resume_token),)
                await context.send_initial_metadata(() if request.resume_token else begun_at)
                # While the client does not read, the log is not read.
                while (message := await _next_event(watch, stream)) is not None:
                    await stream.write(message)

    @contextmanager
    def _operator(
        self, method: str, context: Context, wanted: Message, *, continues: bool = False
    ) -> Iterator[Caller]:
        with self._admission.call(context, Caller.authorize_admin) as caller:
            self._audit(method, context, caller, wanted, continues=continues)
            yield caller

    def _audit(
        self,
        method: str,
        context: Context,
        caller: Caller,
        wanted: Message,
        *,
        continues: bool = False,
    ) -> None:
        """See ``AdminActions.acted``."""
        self._admin.actions.acted(
            method,
            caller=caller.name,
            peer=str(context.peer()),
            request=wanted.SerializeToString(deterministic=True),
            continues=continues,
        )


async def _next_event(watch: Watch, stream: AdmittedStream) -> pb.WatchSessionsResponse | None:
    """The next event, for as long as the caller is known; None once there are no more."""
    following = asyncio.ensure_future(anext(watch.events, None))
    try:
        await stream.first_done((following,))
        logged = await following
        if logged is None:
            return None
        return admin_wire.event_message(logged.position, logged.event)
    finally:
        following.cancel()
        await asyncio.wait((following,))
