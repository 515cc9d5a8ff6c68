"""The gRPC services of authsvc, over the parts that decide."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from grpc import aio

from authsvc.access.callers import Callers
from authsvc.rpc import admin_service, auth_service, health
from authsvc.rpc.admin_service import SessionAdminServicer
from authsvc.rpc.admission import Admission
from authsvc.rpc.auth_service import AuthServicer
from authsvc.rpc.health import HealthServicer
from authsvc.rpc.reflection import ReflectionServicer
from authsvc.rpc.waiting import BoundedHandlers
from authsvc.server.assembly import Service
from authsvc.server.config import Settings
from authsvc.server.listener import max_waiting_calls

AUTHSVC_SERVICES = (auth_service.SERVICE.full_name, admin_service.SERVICE.full_name)
"""Full names of our own services."""


def add_services(
    server: aio.Server, service: Service, callers: Callers, settings: Settings
) -> HealthServicer:
    """Serve a service, its health and its reflection from ``server``, which has not been started.

    Args:
        server: gets the handlers.
        service: decides.
        callers: who may call.
        settings: bound the calls that wait for their clients, and say whether gateways are served.

    Returns:
        Where the service's health is to be reported.

    Raises:
        ConfigError: ``[ext_authz]`` cannot be served.
    """
    admission = Admission(callers, service.usages)
    health_servicer = HealthServicer(admission, service.stopping)
    auth_servicer = AuthServicer(
        service.resolver, admission, service.stopping, service.metrics, service.tracing
    )
    reflected = (*AUTHSVC_SERVICES, health.SERVICE.full_name)
    bounded = BoundedHandlers(
        (
            auth_servicer.handlers(),
            SessionAdminServicer(service.admin, admission).handlers(),
            health_servicer.handlers(),
            ReflectionServicer(admission, reflected).handlers(),
            *_gateway_handlers(service, admission, settings),
        ),
        admission,
        max_waiting=max_waiting_calls(settings),
        wait_seconds=settings.limits.request_timeout_seconds,
        open_methods=(health.CHECK_METHOD,),
    )
    server.add_generic_rpc_handlers((bounded,))
    return health_servicer


def _gateway_handlers(
    service: Service, admission: Admission, settings: Settings
) -> Iterator[grpc.GenericRpcHandler]:
    # The settings demand the one for the other.
    table, signer = settings.ext_authz, service.assertions
    if table is not None and signer is not None:
        # It needs the extra "envoy".
        from authsvc.server.ext_authz import ext_authz_servicer, ext_mcp_servicer

        yield ext_authz_servicer(table, service, signer, admission).handlers()
        if table.ext_mcp:
            yield ext_mcp_servicer(table, service, signer, admission).handlers()
