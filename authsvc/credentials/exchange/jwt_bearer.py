"""Profile ``jwt-bearer``: the client's token as an authorization grant (RFC 7523 section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.credentials.exchange.profile import Exchanged, Leg
from authsvc.domain.resolution import Principal, Secret

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """A ``Profile``. Parameters that are empty are omitted.

    Attributes:
        leg: the token endpoint.
        api: the API, by its URI: parameter ``resource`` (RFC 8707 section 2.2).
        scopes: the scopes to request.
    """

    leg: Leg
    api: str = ""
    scopes: tuple[str, ...] = ()

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """See ``Profile.exchanged``."""
        form = assertion_form(token) | {"resource": self.api, "scope": " ".join(self.scopes)}
        return Exchanged(await self.leg.ask(form, now))


def assertion_form(assertion: Secret) -> dict[str, str]:
    """The parameters that each request has."""
    return {"grant_type": GRANT_TYPE, "assertion": assertion.reveal()}
