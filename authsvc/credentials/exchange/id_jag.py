"""Profile ``id-jag``: an API whose authorization server is another than the client's.

Both servers have one identity provider, which decides who may use what. It issues an identity
assertion in exchange for the client's token; the API's own authorization server issues an access
token for that.

Source: draft-ietf-oauth-identity-assertion-authz-grant-04 sections 4.3 and 4.4, and
"Enterprise-Managed Authorization" of the Model Context Protocol, sections 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.credentials.exchange.answers import ACCESS_TOKEN, ASSERTION, ID_JAG
from authsvc.credentials.exchange.failures import own_token
from authsvc.credentials.exchange.jwt_bearer import assertion_form
from authsvc.credentials.exchange.profile import Exchanged, Leg
from authsvc.credentials.exchange.rfc8693 import subject_form
from authsvc.domain.resolution import Principal, Secret


@dataclass(frozen=True, slots=True)
class IdentityAssertion:
    """A ``Profile`` of two requests. Parameters that are empty are omitted.

    The client's token goes to the first endpoint alone, the assertion to the second alone. The
    assertion is not kept: the API's token is what is cached.

    Attributes:
        identity_provider: the token endpoint of the client's issuer.
        api_server: the token endpoint of the API's authorization server.
        audience: the issuer identifier of that server.
        api: the API, by its URI: parameter ``resource``.
        scopes: the scopes of the assertion.
        subject_token_type: the type of the client's token, as a URI. The draft has an ID token, a
            SAML assertion or a refresh token; some servers also take an access token.
        requested_scopes: the scopes that the second request names. The draft's example names none:
            the assertion has them. Keycloak's does.
    """

    identity_provider: Leg
    api_server: Leg
    audience: str
    api: str = ""
    scopes: tuple[str, ...] = ()
    subject_token_type: str = ACCESS_TOKEN
    requested_scopes: tuple[str, ...] = ()

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """See ``Profile.exchanged``."""
        form = subject_form(token, self.subject_token_type, ID_JAG)
        form |= {"audience": self.audience, "resource": self.api, "scope": " ".join(self.scopes)}
        assertion = (await self.identity_provider.ask(form, now, ASSERTION)).access_token
        if assertion == token:
            raise own_token()
        grant = assertion_form(assertion) | {"scope": " ".join(self.requested_scopes)}
        issued = await self.api_server.ask(grant, now)
        return Exchanged(issued, (assertion,))
