"""From ``[ext_authz]`` to the service that gateways ask. Imported where it is configured."""

from __future__ import annotations

from authsvc.common import extras
from authsvc.common.settings import ConfigError

try:
    import mcp_types  # noqa: F401 - whether it is there
except ModuleNotFoundError:
    missing = extras.MissingExtraError("ext_authz", "envoy", "mcp_types")
    raise ConfigError(str(missing)) from None
# isort: split

from authsvc.gateways.ext_authz import ExtAuthzServicer
from authsvc.gateways.ext_mcp import ExtMcpServicer
from authsvc.gateways.repeated_checks import Signer
from authsvc.gateways.routes import Route, Routes
from authsvc.http_auth.requirements import OPEN_METHODS
from authsvc.http_auth.tool_limits import ToolLimit
from authsvc.rpc.admission import Admission
from authsvc.server.assembly import Service
from authsvc.server.config.ext_authz import ExtAuthzRoute, ExtAuthzSettings


def ext_authz_servicer(
    settings: ExtAuthzSettings, service: Service, signer: Signer, admission: Admission
) -> ExtAuthzServicer:
    """The service.

    Args:
        settings: the table.
        service: decides.
        signer: makes assertions.
        admission: admits calls.
    """
    return ExtAuthzServicer(
        service.resolver,
        admission,
        routes_of(settings),
        signer,
        service.metrics.checks,
        service.tracing,
        client_address_header=settings.client_address_header,
        audit=service.call_audit,
    )


def ext_mcp_servicer(
    settings: ExtAuthzSettings, service: Service, signer: Signer, admission: Admission
) -> ExtMcpServicer:
    """The same for agentgateway; arguments as of ``ext_authz_servicer``."""
    routes = (item.model_copy(update={"adopt_sessions": True}) for item in settings.routes)
    adopting = settings.model_copy(update={"adopt_sessions": True, "routes": tuple(routes)})
    return ExtMcpServicer(ext_authz_servicer(adopting, service, signer, admission))


def routes_of(settings: ExtAuthzSettings) -> Routes:
    """The configured routes."""
    routes = (_route(item, settings) for item in settings.routes)
    return Routes(routes, adopt_sessions=settings.adopt_sessions)


def _route(item: ExtAuthzRoute, settings: ExtAuthzSettings) -> Route:
    adopts = settings.adopt_sessions if item.adopt_sessions is None else item.adopt_sessions
    return Route(
        resource=item.resource,
        hosts=item.hosts,
        path=item.path,
        adopt_sessions=adopts,
        open_methods=OPEN_METHODS if item.open_methods is None else frozenset(item.open_methods),
        scopes=item.scopes,
        tools=item.tools,
        rate_limits=tuple(ToolLimit(each.limit(), each.tools) for each in item.rate_limits),
        authorization_servers=item.authorization_servers,
        credentials=item.credentials,
        credential_name=item.credential_name,
        routing_headers=item.routing_headers,
        audited_arguments=item.audited_arguments,
    )
