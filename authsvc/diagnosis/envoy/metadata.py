"""Whether clients find the metadata of resources behind a gateway (RFC 9728)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from authsvc.common.formats import spelled_resource
from authsvc.diagnosis.adapter import metadata_path
from authsvc.diagnosis.envoy.configuration import REDACTED, Manager, Route, VirtualHost
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.matching import host_for, is_conditional, may_match
from authsvc.diagnosis.envoy.routes import RESOURCE, is_checked, place_of_route
from authsvc.server.config.ext_authz import ExtAuthzRoute


def examine(faults: Faults, manager: Manager, routes: Iterable[ExtAuthzRoute]) -> None:
    """Report metadata that no route leads to, or one of another resource.

    Args:
        faults: gets what is found.
        manager: has the gateway's routes.
        routes: of authsvc: those with ``authorization_servers`` have metadata.
    """
    for item in routes:
        parts = urlsplit(item.resource)
        host = host_for(manager.hosts, parts.netloc)
        if item.authorization_servers and host and _leads(manager, host, parts.path or "/"):
            _examine(faults, manager, host, item.resource)


def examine_servers(
    faults: Faults, resources: Collection[str], routes: Iterable[ExtAuthzRoute]
) -> None:
    """Report resources that have no metadata.

    Args:
        faults: gets what is found.
        resources: that authsvc and the gateway know.
        routes: of authsvc.
    """
    found = {item.resource for item in routes if item.authorization_servers}
    for resource in sorted({*resources} - found):
        faults.note(
            "no [[ext_authz.routes]] has authorization_servers for it: challenges name no "
            "metadata, and clients that have no token do not learn where to get one",
            resource,
        )


def _leads(manager: Manager, host: VirtualHost, path: str) -> bool:
    """Whether a route to an upstream that is checked may take a path."""
    return any(
        route.action is not None and is_checked(manager, route) and may_match(route.match, path)
        for route in host.routes
    )


def _examine(faults: Faults, manager: Manager, host: VirtualHost, resource: str) -> None:
    path = metadata_path(resource)
    may_take = [route for route in host.routes if may_match(route.match, path)]
    if not may_take:
        faults.warn(
            f"no route leads to {path}, where clients look for its metadata",
            "Add a route for /.well-known/oauth-protected-resource, with the same filter.",
            f"{manager.place}, {resource}",
        )
    taken = next((route for route in may_take if _is_certain(route)), None)
    if taken is None or taken.action is None:
        return
    for filtered in manager.filters:
        override = taken.override(filtered)
        named = override.extensions.get(RESOURCE, REDACTED) if override.runs else REDACTED
        if named != REDACTED and spelled_resource(named) != resource:
            faults.fail(
                f"it serves {path} for resource {named!r:.200}: clients do not find the metadata "
                f"of {resource}",
                "Put a route for that path before it, with context_extensions of that resource; or "
                "name no resource there: authsvc finds it by host and path.",
                place_of_route(manager, host, taken),
            )


def _is_certain(route: Route) -> bool:
    """Whether a route that may take a path does."""
    return not is_conditional(route.match) and "safe_regex" not in route.match
