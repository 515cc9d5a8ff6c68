"""``grpc.health.v1.Health``: ``Check`` for everybody, ``Watch`` for registered callers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authsvc.rpc.admission import Admission
from authsvc.rpc.admitted_stream import AdmittedStream
from authsvc.rpc.errors import ends_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.registration import service_handlers

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]

CHECK_METHOD = f"/{SERVICE.full_name}/Check"
"""The full name of the one method that a caller may use without being identified."""

_SERVING = {True: HealthCheckResponse.SERVING, False: HealthCheckResponse.NOT_SERVING}


class HealthServicer:
    """The health of the server and its services.

    A watch lasts, and counts as one of its caller's streams. It waits for its own client alone:
    gRPC's servicer holds a lock while it writes, so that one client that does not read would hold
    up the other watches, changes of health, and the stop of the server.

    Args:
        admission: admits watches.
        stopping: set when the server stops: it ends the watches.
    """

    def __init__(self, admission: Admission, stopping: asyncio.Event) -> None:
        self._admission = admission
        self._stopping = stopping
        self._statuses: dict[str, int] = {"": HealthCheckResponse.SERVING}
        self._changed = asyncio.Event()
        self._is_draining = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return service_handlers(SERVICE, self, only=("Check", "Watch"))

    def report(self, service: str, *, serving: bool) -> None:
        """Set the health of a service, unless the server drains.

        Args:
            service: its full name; empty for the server as a whole.
            serving: whether it serves.
        """
        if not self._is_draining:
            self._set(service, _SERVING[serving])

    def drain(self) -> None:
        """Set every service to NOT_SERVING; later reports change nothing."""
        self._is_draining = True
        for service in self._statuses:
            self._set(service, _SERVING[False])

    async def Check(  # noqa: N802 - gRPC's name
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """See ``grpc.health.v1.Health.Check``."""
        status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
        return HealthCheckResponse(status=status)

    @ends_with_status
    async def Watch(  # noqa: N802 - gRPC's name
        self, request: HealthCheckRequest, context: Context
    ) -> None:
        """See ``grpc.health.v1.Health.Watch``."""
        with self._admission.stream(context) as stream:
            written = None
            while True:
                changed, is_stopping = self._changed, self._stopping.is_set()
                status = self._statuses.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
                if status != written:
                    await stream.write(HealthCheckResponse(status=status))
                    written = status
                elif is_stopping:
                    context.set_code(grpc.StatusCode.UNAVAILABLE)
                    context.set_details("the server stops")
                    return
                else:
                    await _first_set((changed, self._stopping), stream)

    def _set(self, service: str, status: int) -> None:
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


async def _first_set(events: Iterable[asyncio.Event], stream: AdmittedStream) -> None:
    """Wait for the first of some events, for as long as the caller is known."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await stream.first_done(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
