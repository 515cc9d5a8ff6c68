"""What the routes of a gateway do with the checks: which are left out, which resource they name."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from authsvc.common.formats import spelled_resource
from authsvc.diagnosis.envoy.configuration import REDACTED, Envoy, Manager, Route, VirtualHost
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.fields import Fields
from authsvc.diagnosis.envoy.filters import examine_body, no_body
from authsvc.diagnosis.envoy.matching import (
    host_for,
    is_conditional,
    may_match,
    path_of,
    shown,
)
from authsvc.diagnosis.envoy.registrations import Registrations
from authsvc.net.urls import read, resource_fault

RESOURCE = "resource"
"""The context extension that names a route's resource."""

_ESCAPED_SLASHES_READ = frozenset(
    {"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"}
)

_OURS = frozenset({"x-authsvc-assertion", "x-authsvc-credentials"})
"""Headers by which servers know who is asking."""


def named_resources(envoy: Envoy) -> set[str]:
    """The resources that routes name and a dump does not hide, in their canonical spelling."""
    return {
        spelled_resource(named)
        for manager in envoy.managers
        for _, _, route in _checked(manager)
        for filtered in manager.filters
        if (named := route.override(filtered).extensions.get(RESOURCE, REDACTED)) != REDACTED
    }


def examine(
    faults: Faults,
    manager: Manager,
    resources: Collection[str],
    registrations: Registrations,
) -> None:
    """Examine the routes of a manager with ext_authz filters.

    Args:
        faults: gets what is found.
        manager: whose routes they are.
        resources: the MCP servers that are known.
        registrations: what authsvc knows.
    """
    for place, _, route in _all_routes(manager):
        _examine_names(faults, manager, route, place)
    for place, host, route in _checked(manager):
        _examine_bodies(faults, manager, route, place)
        _examine_stream(faults, manager, route, place)
        _examine_resources(faults, manager, route, place, registrations)
        _examine_place(faults, manager, host, route, registrations)
    for resource in resources:
        if not resource_fault(resource):
            _examine_open(faults, manager, resource)
    _examine_forwarded(faults, manager)
    _examine_paths(faults, manager)
    if manager.options.text("headers_with_underscores_action") not in {
        "REJECT_REQUEST",
        "DROP_HEADER",
    }:
        faults.warn(
            "headers with underscores are let through: servers that take _ for - read them as "
            "others than authsvc has seen",
            "Set common_http_protocol_options.headers_with_underscores_action: REJECT_REQUEST.",
            manager.place,
        )


def _examine_paths(faults: Faults, manager: Manager) -> None:
    """Report paths that a server may read otherwise than Envoy has matched them."""
    config = manager.config
    found = [name for name in ("normalize_path", "merge_slashes") if not config.flag(name)]
    if config.text("path_with_escaped_slashes_action") not in _ESCAPED_SLASHES_READ:
        found.append("path_with_escaped_slashes_action")
    if found:
        faults.warn(
            f"paths are matched as they came ({', '.join(found)}): /open/../mcp may be served as "
            "/mcp, and is not checked as that",
            "Set normalize_path: true, merge_slashes: true and path_with_escaped_slashes_action: "
            "REJECT_REQUEST.",
            manager.place,
        )


def _all_routes(manager: Manager) -> Iterator[tuple[str, VirtualHost, Route]]:
    for host in manager.hosts:
        for route in host.routes:
            yield place_of_route(manager, host, route), host, route


def place_of_route(manager: Manager, host: VirtualHost, route: Route) -> str:
    """Where a route is, for people."""
    return f"{manager.place}, {next(iter(host.domains), '')} {shown(route.match)}"


def _checked(manager: Manager) -> Iterator[tuple[str, VirtualHost, Route]]:
    """The routes to an upstream that a filter runs for, with their places and their hosts."""
    for place, host, route in _all_routes(manager):
        if route.action is not None and is_checked(manager, route):
            yield place, host, route


def is_checked(manager: Manager, route: Route) -> bool:
    """Whether a filter runs for a route's requests."""
    return any(route.override(it).runs for it in manager.filters)


def _examine_bodies(faults: Faults, manager: Manager, route: Route, place: str) -> None:
    for filtered in manager.filters:
        override = route.override(filtered)
        if override.runs and not override.sends_body:
            no_body(faults, place)
        elif override.runs and override.body is not None:
            examine_body(faults, override.body, place)


def _examine_names(faults: Faults, manager: Manager, route: Route, place: str) -> None:
    for name in sorted(route.names() - {it.name for it in manager.filters}):
        faults.warn(
            f"typed_per_filter_config names {name}, which is no ext_authz filter there: it has no "
            "effect",
            "Write the name that the filter has in http_filters.",
            place,
        )


def _cluster(route: Route) -> str:
    """The cluster that a route goes to; empty where it has none, or several."""
    return route.action.text("cluster") if route.action is not None else ""


def _examine_forwarded(faults: Faults, manager: Manager) -> None:
    """Examine routes that are not checked, to servers that other routes lead to with checks."""
    checked = {_cluster(route) for _, _, route in _checked(manager)} - {""}
    for place, _, route in _all_routes(manager):
        missing = sorted(_OURS - route.removed)
        if missing and _cluster(route) in checked and not is_checked(manager, route):
            faults.warn(
                f"it is not checked, and the server gets {' and '.join(missing)} as a client "
                "sends them",
                "Add them to request_headers_to_remove of this route.",
                place,
            )


def _examine_stream(faults: Faults, manager: Manager, route: Route, place: str) -> None:
    action = route.action
    if action is None:
        return
    longest = action.table("max_stream_duration").seconds("max_stream_duration")
    if longest is None:
        longest = manager.options.seconds("max_stream_duration")
    # Without a timeout of its own, a route has Envoy's, of 15 s.
    if not longest and action.seconds("timeout") == 0:
        faults.warn(
            "a stream may last for ever: a revocation does not end one that runs",
            "Set max_stream_duration on the route, or in common_http_protocol_options.",
            place,
        )


def _examine_resources(
    faults: Faults, manager: Manager, route: Route, place: str, registrations: Registrations
) -> None:
    for filtered in manager.filters:
        override = route.override(filtered)
        resource = override.extensions.get(RESOURCE, "") if override.runs else ""
        if resource == REDACTED:
            faults.note(
                "not compared: the dump hides the resource that it names: give --envoy the file",
                place,
            )
        elif resource and (fault := registrations.fault(filtered, resource)):
            faults.fail(*fault, place)


def _examine_place(
    faults: Faults, manager: Manager, host: VirtualHost, route: Route, registrations: Registrations
) -> None:
    overrides = [route.override(it) for it in manager.filters]
    # Of several filters, one may be for another service.
    if any(RESOURCE in it.extensions for it in overrides if it.runs):
        return
    if fault := registrations.fault_of_place(host, route):
        faults.fail(*fault, place_of_route(manager, host, route))


def _examine_open(faults: Faults, manager: Manager, resource: str) -> None:
    """Report where requests for a resource pass unchecked."""
    url = read(resource)
    authority = f"{url.host}:{url.port}" if url.port else url.host
    host = host_for(manager.hosts, authority)
    if host is None:
        return
    decided: Fields | None = None
    for route in host.routes:
        is_open = route.action is not None and not is_checked(manager, route)
        place = place_of_route(manager, host, route)
        if not may_match(route.match, url.path or "/"):
            if is_open and _is_below(route, url.path):
                _report_below(faults, resource, place)
        elif is_open and (decided is None or decided is route.match):
            # The weighted clusters of a route share its match.
            _report_open(faults, resource, place, is_certain=not is_conditional(route.match))
        elif not is_conditional(route.match):
            decided = decided or route.match


def _is_below(route: Route, path: str) -> bool:
    """Whether a route is for paths below one; of a whole host, single paths do not count."""
    is_single = "path" in route.match
    return path_of(route.match).startswith(f"{path}/") and not (is_single and not path)


def _report_open(faults: Faults, resource: str, place: str, *, is_certain: bool) -> None:
    remedy = (
        "Remove `disabled: true` from what applies to this route in typed_per_filter_config; a "
        "filter that is disabled itself has to be enabled there."
    )
    if is_certain:
        faults.fail(f"requests for {resource} pass unchecked", remedy, place)
    else:
        faults.warn(
            f"requests for {resource} that meet this route's other conditions pass unchecked",
            remedy,
            place,
        )


def _report_below(faults: Faults, resource: str, place: str) -> None:
    faults.warn(
        f"requests below {resource} pass unchecked",
        "Keep it if nothing there asks who is calling; else remove `disabled: true`.",
        place,
    )
