"""Claim ``may_act`` (RFC 8693 section 4.4): who may act for the subject of a token. Pure.

The endpoint decides whether it issues a token. authsvc does not even ask it with a token that says
that somebody else may: an endpoint that does not know the claim would issue one.
"""

from __future__ import annotations

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal

_MEMBERS = ("sub", "iss", "client_id")


def check_may_act(principal: Principal, *, client_id: str, setting: str) -> None:
    """Check that a token, if it says who may act for its subject, names authsvc's own client.

    The client is named by member ``client_id``, or by ``sub`` where that is absent; member ``iss``
    is the token's issuer, or absent. Without the claim nothing is checked.

    Args:
        principal: of the token.
        client_id: authsvc's client at the token's issuer.
        setting: the one that names that client.

    Raises:
        AuthError: CREDENTIALS_REFUSED: the claim names another client, or is malformed.
    """
    # Parsed for those tokens alone that may have it. JSON can also spell its name with escapes.
    if b"may_act" not in principal.claims_json and b"\\u" not in principal.claims_json:
        return
    claim = principal.claims.get("may_act")
    if claim is None:
        return
    if fault := _fault(claim, principal.issuer, client_id):
        raise AuthError(
            Reason.CREDENTIALS_REFUSED, f"claim may_act of the token {fault}", setting=setting
        )


def _fault(claim: object, issuer: str, client_id: str) -> str:
    """What is wrong with it; empty if nothing is."""
    if not isinstance(claim, dict):
        return "is not an object"
    members = {name: claim.get(name) for name in _MEMBERS}
    if any(not isinstance(it, str) for it in members.values() if it is not None):
        return "has a member that is not a string"
    if members["iss"] not in (None, issuer):
        return "names a client of another issuer"
    named = members["sub"] if members["client_id"] is None else members["client_id"]
    return "" if client_id and named == client_id else "does not name authsvc's client"
