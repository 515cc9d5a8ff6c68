"""Several brokers: one is called for a principal, by the name asked for and by the resource."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic

from authsvc.common.rarely import Rarely
from authsvc.credentials import CredentialBroker
from authsvc.credentials.conditions import EVERYONE, PrincipalConditions
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Credentials, Principal, Secret

log = logging.getLogger(__name__)

NONE_INTERVAL_SECONDS = 60.0
"""From one line about a name for which principals have no credentials to the next."""


@dataclass(frozen=True, slots=True)
class Route:
    """One table of the configuration.

    Attributes:
        broker: issues its credentials.
        name: what they are asked for by; empty for those that a resolve answers by default.
        resources: the resources it applies to; none, for a table without a name, for the rest.
        conditions: the principals it applies to.
        table: the table, as the configuration names it.
    """

    broker: CredentialBroker
    name: str = ""
    resources: tuple[str, ...] = ()
    conditions: PrincipalConditions = EVERYONE
    table: str = ""


class CredentialRouter:
    """A ``CredentialBroker`` that calls the broker of the first route that applies.

    Routes that name the resource come before those that name none, then the earlier one first. If
    the broker of that route has nothing for a principal, or rejects it, no other is called.

    Args:
        routes: in the order of the configuration.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        routes = tuple(routes)
        self._lines = Rarely(NONE_INTERVAL_SECONDS, monotonic)
        self._resources = frozenset(it for route in routes for it in route.resources)
        self._others = tuple(it for it in routes if not it.resources and not it.name)
        named: dict[tuple[str, str], tuple[Route, ...]] = {}
        for route in routes:
            for resource in route.resources:
                key = route.name, resource
                named[key] = (*named.get(key, ()), route)
        self._routes = {
            (name, resource): found if name else (*found, *self._others)
            for (name, resource), found in named.items()
        }

    def route(self, principal: Principal, name: str, resource: str) -> Route | None:
        """The route of a principal; None where none applies to it.

        Args:
            principal: whose credentials are asked for.
            name: which ones; empty for those without a name.
            resource: where the token was presented.

        Raises:
            AuthError: ARGUMENT_INVALID where no table has this name for this resource.
        """
        routes = self._routes.get((name, resource))
        if routes is None:
            if name:
                raise no_such_name(name, resource)
            routes = self._others
        return next((it for it in routes if it.conditions.hold(principal)), None)

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``.

        Raises:
            AuthError: also ARGUMENT_INVALID, see ``route``; CREDENTIALS_REFUSED where they are
                asked for with a bucket that is none of the principal's.
        """
        route = self.route(principal, wanted.name, resource)
        if wanted.buckets and not {*wanted.buckets} <= {*principal.buckets}:
            raise AuthError(
                Reason.CREDENTIALS_REFUSED, "they are asked for with a bucket not of the token"
            )
        if route is None:
            self._log_none(principal, wanted.name, resource, None)
            return None
        issued = await route.broker.issue(
            principal, token=token, resource=resource, now=now, wanted=wanted
        )
        if issued is None:
            self._log_none(principal, wanted.name, resource, route)
        return issued

    def _log_none(
        self, principal: Principal, name: str, resource: str, route: Route | None
    ) -> None:
        """Log why a principal has none: an error in a condition shows nowhere else. At a bounded
        rate, as many principals may have none and be right."""
        routes = self._routes.get((name, resource), self._others)
        key = name, resource if resource in self._resources else "", route is None
        if not routes or not self._lines.may_pass(key):
            return
        if route is not None:
            why = f"{route.table or 'its table'} applies, and has nothing for the token's claims"
        else:
            why = "; ".join(f"{it.table}: {it.conditions.missing(principal)}" for it in routes)
        log.info(
            "credentials %s: there are none for this principal at %s: %s",
            name or "without a name",
            resource,
            why,
            extra={
                "subject": principal.subject,
                "issuer": principal.issuer,
                "client": principal.client_id,
                "resource": resource,
            },
        )


def no_such_name(name: str, resource: str) -> AuthError:
    """The error for credentials that no table has.

    Args:
        name: what was asked for.
        resource: at which resource.
    """
    return AuthError(
        Reason.ARGUMENT_INVALID,
        f"no table of [credentials] has name = {name!r} and {resource} in its resources",
        setting="credentials",
    )
