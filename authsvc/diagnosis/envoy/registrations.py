"""Whether authsvc's configuration agrees with a gateway's: who it is, and its resources."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from authsvc.access.callers import Caller, Callers
from authsvc.common.formats import spelled_resource
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Report
from authsvc.diagnosis.adapter import WELL_KNOWN_PATH
from authsvc.diagnosis.envoy.configuration import Envoy, Filter, Manager, Route, VirtualHost
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.gateway_caller import caller_of
from authsvc.diagnosis.envoy.matching import has_host, may_match, path_of
from authsvc.domain.errors import AuthError
from authsvc.gateways.places import Place
from authsvc.server.callers import callers_of
from authsvc.server.config import Settings
from authsvc.server.config.ext_authz import ExtAuthzRoute


class Registrations:
    """What authsvc knows.

    Args:
        settings: of authsvc; None where they are not at hand: then nothing is a fault.
        envoy: the gateway.
    """

    def __init__(self, settings: Settings | None, envoy: Envoy) -> None:
        self._settings = settings
        self._envoy = envoy
        self._callers = _callers(settings)
        by_caller: Mapping[str, set[str]] = (
            {it.name: {*it.resources} for it in settings.callers} if settings else {}
        )
        table = settings.ext_authz if settings else None
        self.routes = table.routes if table else ()
        """``[[ext_authz.routes]]``."""
        self.resources = set(settings.resources if settings else ()).union(*by_caller.values())
        """Resources that any caller may ask about, in their canonical spelling."""

    @property
    def is_known(self) -> bool:
        """Whether there are settings of authsvc to compare with."""
        return self._settings is not None

    def is_served(self, report: Report) -> bool:
        """Whether authsvc answers checks; reports it if not."""
        if self._settings is None or self._settings.ext_authz is not None:
            return True
        report.fail(
            "authsvc has no [ext_authz]: it answers no checks",
            "Set [ext_authz] and [assertions] (docs/gateways.md).",
        )
        return False

    def examine(self, faults: Faults, filtered: Filter, place: str) -> None:
        """Report a gateway that authsvc cannot identify."""
        try:
            self._caller(filtered)
        except AuthError as error:
            faults.fail(
                f"authsvc denies what it presents: {error}",
                "Register its certificate's name or its service token in [[callers]], or give it "
                "another one.",
                place,
            )

    def fault_of_place(self, host: VirtualHost, route: Route) -> tuple[str, str] | None:
        """What is wrong with a route that names no resource, and what mends it; None if nothing is
        known to be: authsvc finds the resource by host and path."""
        if self._settings is None or self._settings.ext_authz is None:
            return None
        if any(_leads_to(host, route, it) for it in self.routes):
            return None
        return (
            "it names no resource, and no [[ext_authz.routes]] has its host and path: denied",
            "Name the resource in context_extensions, or in [[ext_authz.routes]].",
        )

    def unused(self, managers: Iterable[Manager], named: Collection[str]) -> Iterator[str]:
        """Resources of [[ext_authz.routes]] that no route of the gateway leads to.

        Args:
            managers: have the routes.
            named: resources that routes name.
        """
        hosts = [host for manager in managers for host in manager.hosts]
        for item in self.routes:
            if item.resource in named:
                continue
            if not any(_leads_to(host, route, item) for host in hosts for route in host.routes):
                yield item.resource

    def fault(self, filtered: Filter, resource: str) -> tuple[str, str] | None:
        """What is wrong with the resource that a route names, and what mends it; None if nothing
        is known to be.

        Args:
            filtered: the filter that sends it.
            resource: as the route names it.
        """
        if self._settings is None:
            return None
        named = f"context_extensions names resource {resource!r:.200}"
        if spelled_resource(resource) not in self.resources:
            return (
                f"{named}, which authsvc does not know",
                "Register it in resources (of [[callers]], if it has them), or correct the route.",
            )
        try:
            caller = self._caller(filtered)
        except AuthError:
            return None  # ``examine`` reports it
        if caller is None or spelled_resource(resource) in caller.resources:
            return None
        return (
            f"{named}, for which caller {caller.name} is not registered",
            f"Add it to callers[{caller.name}].resources, or correct the route.",
        )

    def _caller(self, filtered: Filter) -> Caller | None:
        return None if self._callers is None else caller_of(self._envoy, filtered, self._callers)


def _leads_to(host: VirtualHost, route: Route, item: ExtAuthzRoute) -> bool:
    """Whether requests of a gateway's route may be for a resource, by host and path."""
    place = Place.of(item.resource, item.hosts, item.path)
    authorities = item.hosts or (urlsplit(item.resource).netloc,)
    if not any(has_host(host, it) for it in authorities):
        return False
    text = path_of(route.match)
    if text.startswith(WELL_KNOWN_PATH):
        return True
    return may_match(route.match, place.path or "/") or text.startswith(f"{place.path}/")


def _callers(settings: Settings | None) -> Callers | None:
    """The callers; None where they cannot be read: another check reports that."""
    if settings is None:
        return None
    try:
        return callers_of(settings)
    except ConfigError:
        return None
