"""The gRPC services of authsvc, over the parts that decide."""

from __future__ import annotations

from typing import cast

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from authsvc.access.callers import Callers
from authsvc.rpc.admin_service import SessionAdminServicer
from authsvc.rpc.admission import Edge
from authsvc.rpc.auth_service import (
    AuthServicer,
    GuardedHealthServicer,
    GuardedReflectionServicer,
)
from authsvc.rpc.waiting import BoundedHandlers, GenericHandlers
from authsvc.server.assembly import Service
from authsvc.server.config import LimitSettings
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc

AUTHSVC_SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
"""Full names of our own services."""

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name


def add_services(
    server: aio.Server, service: Service, callers: Callers, limits: LimitSettings
) -> GuardedHealthServicer:
    """Serve a service, its health and its reflection from ``server``, which has not been started.

    Args:
        server: gets the handlers.
        service: decides.
        callers: who may call.
        limits: bound the calls that wait for their clients.

    Returns:
        Where the service's health is to be reported.
    """
    services = GenericHandlers()
    generic = cast("aio.Server", services)
    edge = Edge(callers, service.usages)
    health = GuardedHealthServicer(edge, service.stopping)
    AuthServicer(service.resolver, edge, service.stopping, service.metrics, service.tracing).add_to(
        services
    )
    pb_grpc.add_SessionAdminServiceServicer_to_server(
        SessionAdminServicer(service.admin, edge), generic
    )
    health_pb2_grpc.add_HealthServicer_to_server(health, generic)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        GuardedReflectionServicer(edge, (*AUTHSVC_SERVICES, _HEALTH, _REFLECTION)), generic
    )
    bounded = BoundedHandlers(
        services.handlers,
        edge,
        most=limits.max_unauthenticated_calls,
        seconds=limits.request_timeout_seconds,
        open_methods=(f"/{_HEALTH}/Check",),
    )
    server.add_generic_rpc_handlers((bounded,))
    return health
