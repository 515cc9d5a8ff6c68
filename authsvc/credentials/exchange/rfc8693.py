"""Profile ``rfc8693``: OAuth 2.0 Token Exchange, as Keycloak, Okta, Auth0 and others answer it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from authsvc.common.secret_file import SecretFileError, held_secret
from authsvc.credentials.exchange.answers import ACCESS_TOKEN, BEARER, BEARER_OR_JWT, JWT
from authsvc.credentials.exchange.failures import TABLE
from authsvc.credentials.exchange.profile import Exchanged, Leg
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Secret

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"

ACTOR_SETTING = f"{TABLE}.actor_token_file"


@dataclass(frozen=True, slots=True)
class Actor:
    """authsvc's own token, as the party that acts (RFC 8693 section 1.1).

    Attributes:
        file: holds it; read for each request.
        token_type: its type, as a URI.
    """

    file: Path
    token_type: str


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """A ``Profile``. Parameters that are empty are omitted.

    The RFC permits several values of ``audience`` and ``resource``. One is sent: a token for two
    APIs is one that each of them can use at the other.

    Attributes:
        leg: the token endpoint.
        audience: the API, by its name at the endpoint.
        api: the API, by its URI: parameter ``resource`` (RFC 8707).
        scopes: the scopes to request.
        subject_token_type: the type of the client's token, as a URI.
        requested_token_type: the type of the API's token, as a URI.
        actor: who acts; None for the client that authenticates.
    """

    leg: Leg
    audience: str = ""
    api: str = ""
    scopes: tuple[str, ...] = ()
    subject_token_type: str = ACCESS_TOKEN
    requested_token_type: str = ACCESS_TOKEN
    actor: Actor | None = None

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """See ``Profile.exchanged``."""
        form = subject_form(token, self.subject_token_type, self.requested_token_type)
        form |= {"audience": self.audience, "resource": self.api, "scope": " ".join(self.scopes)}
        sent: tuple[Secret, ...] = ()
        if self.actor is not None:
            acting = _actor_token(self.actor)
            form |= {"actor_token": acting.reveal(), "actor_token_type": self.actor.token_type}
            sent = (acting,)
        accepted = BEARER_OR_JWT if self.requested_token_type == JWT else BEARER
        return Exchanged(await self.leg.ask(form, now, accepted), sent)


def subject_form(token: Secret, token_type: str, requested: str) -> dict[str, str]:
    """The parameters that each request has (RFC 8693 section 2.1).

    Args:
        token: the client's.
        token_type: its type, as a URI.
        requested: the type of the token to issue, as a URI.
    """
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": token.reveal(),
        "subject_token_type": token_type,
        "requested_token_type": requested,
    }


def _actor_token(actor: Actor) -> Secret:
    try:
        return Secret(held_secret(actor.file).read())
    except SecretFileError as error:
        raise AuthError(
            Reason.CREDENTIALS_UNAVAILABLE, f"{ACTOR_SETTING}: {error}", setting=ACTOR_SETTING
        ) from None
