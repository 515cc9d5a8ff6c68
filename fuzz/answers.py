"""Fuzzed functions: what authorization servers answer, at introspection and token exchange."""

from __future__ import annotations

from authsvc.common.oauth_errors import error_code
from authsvc.credentials.exchange.answers import (
    ASSERTION,
    BEARER,
    BEARER_OR_JWT,
    Accepted,
    read_answer,
)
from authsvc.credentials.exchange.entra import error_details
from authsvc.domain.errors import AuthError
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.introspection_answers import IntrospectedIssuer
from fuzz.tokens import NOW, RESOURCE

ISSUER = "https://idp.example"

_STRICT = IntrospectedIssuer(ISSUER)
_LENIENT = IntrospectedIssuer(
    ISSUER,
    audiences=Audiences(is_optional=True),
    expiry_optional=True,
    token_type_optional=True,
)


def introspection_verdict(data: bytes) -> str:
    """The reason for which a token is rejected after this answer; empty if it is valid.

    Any other exception is a finding, and so is an answer that the settings of an issuer turn into
    another principal.
    """
    accepted = []
    reason = ""
    for issuer in (_LENIENT, _STRICT):
        try:
            token, lifetime = issuer.verified(data, bytes(32), resource=RESOURCE, now=NOW)
        except AuthError as error:
            reason = error.reason.name
            continue
        reason = ""
        assert lifetime.includes(NOW)
        assert token.principal.issuer == ISSUER
        assert token.principal.subject
        accepted.append(token)
    assert len(accepted) < 2 or accepted[0] == accepted[1]
    return reason


def exchange_verdict(data: bytes) -> str:
    """The reason for which there are no credentials after this answer; empty if there are.

    Any other exception is a finding.
    """
    code = error_code(data)
    assert code.isascii()
    assert len(code) <= 64
    details = error_details(data, [])
    assert details.isascii()
    assert len(details) <= 256
    verdicts = [_exchanged(data, accepted) for accepted in (BEARER, BEARER_OR_JWT, ASSERTION)]
    # No answer is both: an assertion never passes for an API's token.
    assert verdicts[0] or verdicts[2]
    assert verdicts[0] or not verdicts[1]
    return verdicts[0]


def _exchanged(data: bytes, accepted: Accepted) -> str:
    try:
        credentials = read_answer(data, NOW, accepted)
    except AuthError as error:
        return error.reason.name
    assert credentials.token_type == "Bearer"  # noqa: S105 - a name, no token
    assert credentials.expire_time >= NOW
    return ""
