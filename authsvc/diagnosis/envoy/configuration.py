"""The parts of an Envoy's configuration that decide who passes: filters and routes.

Read from a bootstrap, or from a dump of a running Envoy, which has what a control plane (Istio,
Envoy Gateway, Contour) has sent it as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from authsvc.diagnosis.envoy.fields import Fields

REDACTED = "[redacted]"
"""What a dump has in the place of what Envoy takes for sensitive, context extensions among it."""

_MANAGER = "HttpConnectionManager"
_EXT_AUTHZ = "ExtAuthz"
_PER_ROUTE = "ExtAuthzPerRoute"
_FILTER_CONFIG = "FilterConfig"


@dataclass(frozen=True, slots=True)
class Filter:
    """An ext_authz filter of a connection manager.

    Attributes:
        name: by which routes override it.
        is_disabled: whether it runs only where a route enables it.
        config: an ``ExtAuthz``.
    """

    name: str
    is_disabled: bool
    config: Fields


@dataclass(frozen=True, slots=True)
class Override:
    """What a filter does with the requests of one route.

    Attributes:
        runs: whether it checks them at all.
        extensions: its context extensions.
        body: a ``BufferSettings`` in the place of the filter's; None where the filter's holds.
        sends_body: whether the body is sent, if the filter sends any.
    """

    runs: bool
    extensions: Mapping[str, str]
    body: Fields | None
    sends_body: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One route, or one of the weighted clusters of a route.

    Attributes:
        match: a ``RouteMatch``.
        action: a ``RouteAction``; None where it goes to no upstream.
        overrides: the ``typed_per_filter_config`` that apply, the most specific last.
        removed: headers that the upstream does not get, in lower case.
    """

    match: Fields
    action: Fields | None
    overrides: tuple[Mapping[str, object], ...]
    removed: frozenset[str]

    def override(self, filtered: Filter) -> Override:
        """What a filter does with this route's requests.

        Context extensions are merged; of the others the most specific is used.
        """
        runs, body, sends_body = not filtered.is_disabled, None, True
        extensions: dict[str, str] = {}
        for level in self.overrides:
            if filtered.name not in level:
                continue
            config = Fields.of(level[filtered.name])
            if config.kind == _FILTER_CONFIG and not config.flag("disabled"):
                config = config.table("config")
            # An override enables a filter that is disabled itself.
            runs = not config.flag("disabled")
            check = config.table("check_settings")
            given = check.table("context_extensions").items
            extensions |= {name: it for name, it in given.items() if isinstance(it, str)}
            if "with_request_body" in check:
                body = check.table("with_request_body")
            sends_body = not check.flag("disable_request_body_buffering")
        return Override(runs, extensions, body, sends_body)

    def names(self) -> set[str]:
        """The filters that it has overrides of ext_authz for."""
        return {
            name
            for level in self.overrides
            for name, value in level.items()
            if _PER_ROUTE in {Fields.of(value).kind, Fields.of(value).table("config").kind}
        }


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The routes of some hosts, in the order in which they are matched."""

    domains: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Manager:
    """An HTTP connection manager.

    Attributes:
        place: its listener, for people.
        config: an ``HttpConnectionManager``.
        filters: its ext_authz filters.
        hosts: its virtual hosts.
        unread: what of it is somewhere else, for people.
    """

    place: str
    config: Fields
    filters: tuple[Filter, ...]
    hosts: tuple[VirtualHost, ...]
    unread: tuple[str, ...]

    @property
    def options(self) -> Fields:
        """Its ``HttpProtocolOptions``."""
        return self.config.table("common_http_protocol_options")


@dataclass(slots=True)
class Envoy:
    """What was found.

    Attributes:
        is_dump: whether it is a dump, and not the file that Envoy starts with.
        managers: of all listeners.
        clusters: by name.
    """

    is_dump: bool
    managers: list[Manager] = field(default_factory=list)
    clusters: dict[str, Fields] = field(default_factory=dict)


def envoy_of(document: object) -> Envoy:
    """What a document says.

    Raises:
        ValueError: it is neither a bootstrap nor a dump. The message continues a sentence that
            begins with "it".
    """
    top = Fields.of(document)
    if "configs" in top:
        return _of_dump(list(top.tables("configs")))
    if not {"static_resources", "dynamic_resources", "admin"} & set(map(_snake, top.items)):
        raise ValueError("is neither a configuration of Envoy (static_resources) nor its dump")
    resources = top.table("static_resources")
    found = Envoy(is_dump=False)
    found.clusters = {it.text("name"): it for it in resources.tables("clusters")}
    for listener in resources.tables("listeners"):
        found.managers += _managers(listener, {}, {})
    return found


def _snake(name: str) -> str:
    return "".join(f"_{it.lower()}" if it.isupper() else it for it in name)


def _of_dump(sections: list[Fields]) -> Envoy:
    found = Envoy(is_dump=True)
    listeners: list[Fields] = []
    routes, filters = {}, {}
    for section in sections:
        listeners += [it.table("listener") for it in section.tables("static_listeners")]
        dynamic = [it.table("active_state") for it in section.tables("dynamic_listeners")]
        listeners += [it.table("listener") for it in dynamic]
        for kind in ("static_clusters", "dynamic_active_clusters"):
            for entry in section.tables(kind):
                cluster = entry.table("cluster")
                found.clusters[cluster.text("name")] = cluster
        for entry in section.tables("dynamic_route_configs"):
            config = entry.table("route_config")
            routes[config.text("name")] = config
        for entry in section.tables("ecds_filters"):
            one = entry.table("ecds_filter")
            filters[one.text("name")] = one.table("typed_config")
    for listener in listeners:
        found.managers += _managers(listener, routes, filters)
    return found


def _managers(
    listener: Fields, routes: Mapping[str, Fields], filters: Mapping[str, Fields]
) -> Iterator[Manager]:
    place = f"listener {listener.text('name') or 'without a name'}"
    chains = [*listener.tables("filter_chains"), listener.table("default_filter_chain")]
    for chain in chains:
        for network in chain.tables("filters"):
            config = network.table("typed_config")
            if config.kind == _MANAGER:
                yield _manager(place, config, routes, filters)


def _manager(
    place: str, config: Fields, routes: Mapping[str, Fields], filters: Mapping[str, Fields]
) -> Manager:
    unread: list[str] = []
    found = []
    for one in config.tables("http_filters"):
        typed = one.table("typed_config")
        if "config_discovery" in one:
            discovered = filters.get(one.text("name"))
            types = " ".join(one.table("config_discovery").texts("type_urls"))
            if discovered is None and types.endswith(_EXT_AUTHZ):
                unread.append(f"the filter {one.text('name')}, which is discovered (ECDS)")
            typed = discovered or Fields()
        if typed.kind == _EXT_AUTHZ:
            found.append(Filter(one.text("name"), one.flag("disabled"), typed))
    hosts: list[VirtualHost] = []
    for routing in _route_configurations(config, routes, unread):
        hosts += _hosts(routing, unread)
    return Manager(place, config, tuple(found), tuple(hosts), tuple(unread))


def _route_configurations(
    config: Fields, routes: Mapping[str, Fields], unread: list[str]
) -> list[Fields]:
    if "route_config" in config:
        return [config.table("route_config")]
    if "scoped_routes" in config:
        unread.append("its routes, which have scopes (SRDS)")
        return []
    name = config.table("rds").text("route_config_name")
    if name in routes:
        return [routes[name]]
    unread.append(f"its routes {name}, which are discovered (RDS)")
    return []


def _hosts(routing: Fields, unread: list[str]) -> Iterator[VirtualHost]:
    if "vhds" in routing:
        unread.append(f"virtual hosts of {routing.text('name')}, which are discovered (VHDS)")
    for host in routing.tables("virtual_hosts"):
        if "matcher" in host:
            unread.append(f"the routes of {host.text('name')}, which are a tree of matchers")
        found = [it for route in host.tables("routes") for it in _routes(routing, host, route)]
        yield VirtualHost(tuple(host.texts("domains")), tuple(found))


def _routes(routing: Fields, host: Fields, route: Fields) -> Iterator[Route]:
    match = route.table("match")
    action = route.table("route") if "route" in route else None
    levels = (routing, host, route)
    clusters = list(action.table("weighted_clusters").tables("clusters")) if action else []
    # A route to one cluster is as one that weighs it.
    for cluster in clusters or [Fields()]:
        of = (*levels, cluster)
        removed = {it.lower() for level in of for it in level.texts("request_headers_to_remove")}
        yield Route(match, action, tuple(map(_overrides, of)), frozenset(removed))


def _overrides(of: Fields) -> Mapping[str, object]:
    return of.table("typed_per_filter_config").items
