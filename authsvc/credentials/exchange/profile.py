"""What a profile of token exchange is: requests to endpoints, and what is read in their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from authsvc.common.oauth_endpoint import Details, EndpointError, OAuthEndpoint
from authsvc.credentials.exchange.answers import BEARER, Accepted, read_answer
from authsvc.credentials.exchange.failures import TABLE, failure
from authsvc.domain.resolution import BearerCredentials, Principal, Secret


class Exchanged(NamedTuple):
    """What a profile has got for the client's token.

    Attributes:
        credentials: for the API.
        sent: further tokens that were sent on the way: an actor's, an assertion. None of them is
            issued as credentials.
    """

    credentials: BearerCredentials
    sent: tuple[Secret, ...] = ()


class Profile(Protocol):
    """How the client's token is exchanged. It keeps nothing of a request."""

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """Send the requests of one exchange.

        Args:
            principal: of the token.
            token: the client's.
            now: seconds since the epoch.

        Raises:
            AuthError: CREDENTIALS_REFUSED when an endpoint rejects its request;
                CREDENTIALS_UNAVAILABLE when there is no valid response.
        """
        ...


@dataclass(frozen=True, slots=True)
class Leg:
    """One request of an exchange.

    Attributes:
        endpoint: where it is sent to.
        table: the table of the configuration that the endpoint's settings are in.
        details: what more is read in an error's body.
    """

    endpoint: OAuthEndpoint
    table: str = TABLE
    details: Details | None = None

    async def ask(
        self, form: Mapping[str, str], now: float, accepted: Accepted = BEARER
    ) -> BearerCredentials:
        """The token of the response.

        Args:
            form: the parameters; those that are empty are omitted.
            now: seconds since the epoch.
            accepted: the types that it may have.

        Raises:
            AuthError: see ``Profile.exchanged``.
        """
        parameters = {name: value for name, value in form.items() if value}
        try:
            body = await self.endpoint.post(parameters, now, self.details)
        except EndpointError as error:
            raise failure(error, self.table) from None
        return read_answer(body, now, accepted, table=self.table)
