"""Whether authsvc's configuration agrees with a gateway's: who it is, and its resources."""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.access.callers import Caller, Callers
from authsvc.common.formats import spelled_resource
from authsvc.common.settings import ConfigError
from authsvc.diagnosis.envoy.configuration import Envoy, Filter
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.gateway_caller import caller_of
from authsvc.domain.errors import AuthError
from authsvc.server.callers import callers_of
from authsvc.server.config import Settings


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
        self.resources = set(settings.resources if settings else ()).union(*by_caller.values())
        """Resources that any caller may ask about, in their canonical spelling."""

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

    def fault(self, filtered: Filter, resource: str) -> tuple[str, str] | None:
        """What is wrong with the resource that a route names, and what mends it; None if nothing
        is known to be.

        Args:
            filtered: the filter that sends it.
            resource: as the route names it; empty if it names none.
        """
        if self._settings is None or not resource:
            return None
        named = f"context_extensions names resource {resource!r:.200}"
        if spelled_resource(resource) not in self.resources:
            return (
                f"{named}, which authsvc does not know",
                "Register it in resources of the gateway's [[callers]], or correct the route.",
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


def _callers(settings: Settings | None) -> Callers | None:
    """The callers; None where they cannot be read: another check reports that."""
    if settings is None:
        return None
    try:
        return callers_of(settings)
    except ConfigError:
        return None
