"""``grpc.reflection.v1alpha.ServerReflection``, for registered callers."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer as GrpcReflectionServicer

from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import end_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.registration import service_handlers

SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class ReflectionServicer(GrpcReflectionServicer):
    """Describes the services of the server.

    Args:
        admission: admits calls.
        service_names: full names of the services that are served, this one excluded.
    """

    def __init__(self, admission: Admission, service_names: Iterable[str]) -> None:
        super().__init__((*service_names, SERVICE.full_name))
        self._admission = admission

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return service_handlers(SERVICE, self)

    async def ServerReflectionInfo(  # type: ignore[override] # noqa: N802 - stubs: no generator
        self, request_iterator: AsyncIterable[Any], context: Context
    ) -> AsyncIterator[Any]:
        """See ``grpc.reflection.v1alpha.ServerReflection``."""
        try:
            with self._admission.stream(context) as stream:
                answers: Any = super().ServerReflectionInfo(request_iterator, context)
                async for answer in answers:
                    stream.identify()
                    yield answer
        except Exception as error:  # noqa: BLE001 - an unexpected error denies access, too
            end_with_status(error, context)
