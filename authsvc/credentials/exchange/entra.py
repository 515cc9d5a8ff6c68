"""Profile ``entra-obo``: the on-behalf-of flow of the Microsoft identity platform.

Source: "Microsoft identity platform and OAuth 2.0 On-Behalf-Of flow", and for the claims "Access
token claims reference" (Microsoft Learn).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from authsvc.common.oauth_errors import error_code
from authsvc.credentials.exchange.failures import refused
from authsvc.credentials.exchange.jwt_bearer import assertion_form
from authsvc.credentials.exchange.profile import Exchanged, Leg
from authsvc.domain.resolution import Principal, Secret

MAX_CODES = 3
"""Numbers of ``error_codes`` that are shown."""

MAX_CODE = 99_999_999
"""The largest of them. Entra's have up to seven digits."""

_DESCRIBED = re.compile(r"AADSTS([0-9]{1,8}):")
"""How ``error_description`` begins. Some errors have their number there alone."""


@dataclass(frozen=True, slots=True)
class OnBehalfOf:
    """A ``Profile``.

    Attributes:
        leg: the token endpoint, of the tenant. Its ``details`` are ``error_details``.
        scopes: the scopes to request, of one API.
    """

    leg: Leg
    scopes: tuple[str, ...]

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """See ``Profile.exchanged``.

        Raises:
            AuthError: CREDENTIALS_REFUSED also for the token of an application: nothing is sent.
        """
        check_user(principal)
        form = assertion_form(token) | {
            "scope": " ".join(self.scopes),
            "requested_token_use": "on_behalf_of",
        }
        return Exchanged(await self.leg.ask(form, now))


def check_user(principal: Principal) -> None:
    """The flow works for users alone. What it returns for an application's token does not stand
    for that application, says the documentation; so it is not asked.

    Args:
        principal: of the client's token.

    Raises:
        AuthError: CREDENTIALS_REFUSED: the token is an application's.
    """
    claims = principal.claims
    if claims.get("idtyp") == "app" or not claims.get("scp"):
        raise refused(
            "the token is an application's (idtyp is app, or there is no scp): Entra issues tokens "
            "on behalf of users alone",
            "",
        )


def error_details(body: bytes, sent: Sequence[str]) -> str:
    """What Entra says beside ``error``: its numbers, ``suberror``, whether the user can mend it.

    Of ``error_description``, the number that it begins with is read, and ``claims`` are not: both
    may repeat the request, and name users and applications.

    Args:
        body: of the error; what was read of it.
        sent: what the request held.

    Returns:
        A text for operators; empty where there is nothing.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, cut off, or nested too deeply
        return ""
    if not isinstance(answer, dict):
        return ""
    codes = [*_listed(answer.get("error_codes")), *_described(answer.get("error_description"))]
    parts = [*_numbers(codes, sent)]
    if suberror := error_code(json.dumps({"error": answer.get("suberror")}).encode(), sent):
        parts.append(f"suberror {suberror}")
    if answer.get("error") == "interaction_required" or isinstance(answer.get("claims"), str):
        parts.append("the user has to sign in again, as Conditional Access of the API requires")
    return ", ".join(parts)


def _listed(codes: object) -> list[object]:
    return codes[:MAX_CODES] if isinstance(codes, list) else []


def _described(description: object) -> list[int]:
    found = _DESCRIBED.match(description) if isinstance(description, str) else None
    return [int(found[1])] if found else []


def _numbers(codes: Sequence[object], sent: Sequence[str]) -> list[str]:
    numbers = [code for code in codes if type(code) is int and 0 < code <= MAX_CODE]
    return [
        f"AADSTS{number}"
        for number in dict.fromkeys(numbers)
        if not any(str(number) in value for value in sent)
    ]
