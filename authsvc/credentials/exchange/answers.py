"""Responses of token endpoints with a token in them. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping

from authsvc.credentials.exchange.failures import unavailable
from authsvc.domain.resolution import BearerCredentials, Secret

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no token
JWT = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name, no token
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"

DEFAULT_EXPIRES_IN_SECONDS = 300.0
"""``expires_in`` of an answer that has none."""

MAX_SECONDS = 86_400 * 366
"""The longest ``expires_in`` that is accepted; credentials never outlive the client's token."""

Accepted = Mapping[str, Collection[str | None]]
"""By ``token_type``, in lower case: which ``issued_token_type`` an answer may have. None stands for
an answer without one: RFC 8693 requires it, RFC 6749 does not know it, and several servers leave it
out."""

BEARER: Accepted = {"bearer": (None, ACCESS_TOKEN, JWT)}
"""An access token (RFC 6749 section 5.1, RFC 8693 section 2.2.1)."""

BEARER_OR_JWT: Accepted = {**BEARER, "n_a": (JWT,)}
"""What a request for a JWT is answered with: the examples of RFC 8693 appendix A have ``N_A``."""

ASSERTION: Accepted = {"n_a": (ID_JAG,)}
"""An identity assertion, which is no access token
(draft-ietf-oauth-identity-assertion-authz-grant-04 section 4.3.4). A server that ignores what was
requested answers with an access token of its own: that must not go to another server."""

_SPELLED = {"bearer": "Bearer", "n_a": "N_A"}

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,65536}=*")
"""``b64token`` of RFC 6750 section 2.1: nothing else can be sent in the header. JWTs are."""

_DIGITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def read_answer(
    body: bytes, now: float, accepted: Accepted = BEARER, *, table: str = "credentials.exchange"
) -> BearerCredentials:
    """The token of a response. Members that are not named above are not used.

    Args:
        body: of the response.
        now: seconds since the epoch.
        accepted: the types that it may have.
        table: the table of the configuration that the endpoint's settings are in.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is no such response, or has no such token.
    """
    answer = read_object(body, table)
    token = read_token(answer.get("access_token"), table)
    kind, issued = answer.get("token_type"), answer.get("issued_token_type")
    known = accepted.get(kind.lower()) if isinstance(kind, str) else None
    if known is None:
        wanted = " or ".join(_SPELLED[name] for name in accepted)
        raise unavailable(
            f"the token endpoint's answer is of another token_type than {wanted}", table
        )
    if issued not in known:
        raise unavailable("the token endpoint's answer is of another issued_token_type", table)
    expire_time = now + math.floor(_expires_in(answer.get("expires_in"), table))
    return BearerCredentials(token, "Bearer", expire_time)


def read_object(body: bytes, table: str) -> dict[str, object]:
    """A response, which is a JSON object.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is none.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested too deeply
        answer = None
    if not isinstance(answer, dict):
        raise unavailable("the token endpoint's answer is no JSON object", table)
    return answer


def read_token(value: object, table: str) -> Secret:
    """A token that can be sent in a header.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is none.
    """
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise unavailable("the token endpoint's answer has no bearer token", table)
    return Secret(value)


def _expires_in(value: object, table: str) -> float:
    """
    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is no positive number, or no sensible one.
    """
    if value is None:
        return DEFAULT_EXPIRES_IN_SECONDS
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_SECONDS:
        raise unavailable("the token endpoint's answer has no valid expires_in", table)
    return value
