"""Which resource a request to a gateway is for, and what is configured for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.gateways.places import Place, plain_path
from authsvc.http_auth.metadata import WELL_KNOWN_PATH, metadata_paths
from authsvc.http_auth.requirements import OPEN_METHODS
from authsvc.http_auth.tool_limits import ToolLimit


@dataclass(frozen=True, slots=True)
class Route:
    """One resource behind gateways.

    Attributes:
        resource: its canonical URI.
        hosts: where clients reach it; see ``Place.of``.
        path: where it is on these hosts, likewise.
        adopt_sessions: whether ids that the upstream mints are adopted at their first use; else
            authsvc mints them.
        open_methods: methods that need no token; notifications need none either.
        scopes: what each other request needs.
        tools: by tool, the further scopes that its calls need.
        rate_limits: what the calls count towards that are not open.
        authorization_servers: issuers of tokens for it, for its metadata; empty for none.
        credentials: whether the upstream gets the caller's credentials.
        credential_name: their name; empty for those of the resource without one.
        routing_headers: whether Mcp-Method and Mcp-Name name the call of a request whose body was
            not sent.
        audited_arguments: by tool, the arguments that are in the audit of its calls.
    """

    resource: str
    hosts: tuple[str, ...] = ()
    path: str = ""
    adopt_sessions: bool = True
    open_methods: frozenset[str] = OPEN_METHODS
    scopes: tuple[str, ...] = ()
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rate_limits: tuple[ToolLimit, ...] = ()
    authorization_servers: tuple[str, ...] = ()
    credentials: bool = False
    credential_name: str = ""
    routing_headers: bool = False
    audited_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def wanted(self) -> CredentialRequest | None:
        """The credentials that its upstream gets; None for none."""
        return CredentialRequest(self.credential_name) if self.credentials else None


class Routes:
    """The routes of all gateways.

    Args:
        routes: what is configured, each for another resource.
        adopt_sessions: as of a resource that has no route.
    """

    def __init__(self, routes: Iterable[Route], *, adopt_sessions: bool) -> None:
        self._by_resource = {route.resource: route for route in routes}
        self._places = [
            (Place.of(route.resource, route.hosts, route.path), route)
            for route in self._by_resource.values()
        ]
        self._adopt_sessions = adopt_sessions

    def of(self, resource: str) -> Route:
        """The route of a resource that the gateway names."""
        route = self._by_resource.get(resource)
        return route or Route(resource, adopt_sessions=self._adopt_sessions)

    def at(self, host: str, path: str) -> Route | None:
        """The route of a request whose gateway names no resource; None where none is known.

        Args:
            host: of the request.
            path: of the request, not decoded.
        """
        decoded = plain_path(path)
        if decoded is None:
            return None
        here = [(place, route) for place, route in self._places if place.has_host(host)]
        if decoded.startswith(WELL_KNOWN_PATH):
            return _of_metadata(decoded, [route for _, route in here])
        found = [(place, route) for place, route in here if place.may_have_path(decoded)]
        # Of several, the one with the longest path.
        place, route = max(
            found,
            key=lambda it: (len(it[0].path), it[0].has_path(decoded)),
            default=(None, None),
        )
        # No other is taken in place of one that the server may have read.
        return route if place is not None and place.has_path(decoded) else None


def _of_metadata(path: str, routes: list[Route]) -> Route | None:
    """The route whose metadata is at a path. The root's is the host's only resource's."""
    if path.rstrip("/") == WELL_KNOWN_PATH and len(routes) > 1:
        own = [route for route in routes if not Place.of(route.resource).path]
        return own[0] if own else None
    return next((route for route in routes if path in metadata_paths(route.resource)), None)
