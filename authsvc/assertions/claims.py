"""The claims of an assertion. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from authsvc.assertions.keys import base64url
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, Principal, Session

MAX_LIFETIME_SECONDS = 60
"""The longest life of an assertion. After a revocation, one that was signed before is valid for as
long as this."""

MAX_ACT_BYTES = 2_048
"""The longest ``act``, as JSON: the upstream gets it in a header."""

_SID_DOMAIN = b"authsvc assertion sid\0"


def claims_of(
    principal: Principal,
    session: Session,
    *,
    issuer: str,
    resource: str,
    now: float,
    lifetime_seconds: int,
) -> dict[str, Any]:
    """The claims.

    ``exp`` is the earliest of: ``iat`` plus the lifetime, the token's ``exp``, the session's end.
    Both times are whole seconds, rounded down.

    Args:
        principal: whose request it is.
        session: of the request.
        issuer: ``iss``.
        resource: ``aud``.
        now: seconds since the epoch.
        lifetime_seconds: from ``iat`` to ``exp`` at most.

    Raises:
        AuthError: TOKEN_EXPIRED or SESSION_EXPIRED: less than a second is left;
            TOKEN_MALFORMED: ``act`` of the token is longer than ``MAX_ACT_BYTES``. Without it, the
            upstream would take the request for one of the subject alone.
    """
    issue_time = math.floor(now)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": resource,
        "sub": principal.subject,
        "idp": principal.issuer,
        "scope": " ".join(principal.scopes),
        "roles": list(principal.roles),
        "sid": sid_claim(session.id),
        "iat": issue_time,
        "exp": _expire_time(principal, session, issue_time, lifetime_seconds),
    }
    if principal.client_id:
        claims["client_id"] = principal.client_id
    if principal.actor is not None:
        claims["act"] = _act(principal.actor)
    return claims


def sid_claim(session_id: str) -> str:
    """Claim ``sid``: distinguishes sessions, and neither names nor opens one."""
    return base64url(hashlib.sha256(_SID_DOMAIN + session_id.encode()).digest())


def _expire_time(
    principal: Principal, session: Session, issue_time: int, lifetime_seconds: int
) -> int:
    ends = min(principal.expire_time, session.expire_time)
    if ends < issue_time + 1:
        is_token = principal.expire_time <= session.expire_time
        raise AuthError(Reason.TOKEN_EXPIRED if is_token else Reason.SESSION_EXPIRED)
    return math.floor(min(ends, issue_time + lifetime_seconds))


def _act(actor: Actor) -> Mapping[str, object]:
    """
    Raises:
        AuthError: TOKEN_MALFORMED: it has more than ``MAX_ACT_BYTES``.
    """
    act = actor.claim()
    if len(json.dumps(act)) > MAX_ACT_BYTES:
        raise AuthError(
            Reason.TOKEN_MALFORMED, f"its claim act has more than {MAX_ACT_BYTES} bytes"
        )
    return act
