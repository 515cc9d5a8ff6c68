"""The log lines about sessions and credentials that operators search for: their text is stable."""

from __future__ import annotations

import logging

from authsvc.common.rarely import Rarely
from authsvc.domain.decision import Decision
from authsvc.domain.errors import AuthError, GrpcStatus
from authsvc.domain.resolution import Outcome, Principal, shown

log = logging.getLogger(__name__)

NOT_ISSUED_INTERVAL_SECONDS = 1.0
"""From one line about credentials that are not issued to the next of their name, resource and
reason."""

_not_issued = Rarely(NOT_ISSUED_INTERVAL_SECONDS)

_OF_A_TOKEN = GrpcStatus.UNAUTHENTICATED
"""The status of what a token causes, such as one that has just expired. What an endpoint refuses
may be for the operator to mend: a scope, a consent, a role."""


def new_token(session_id: str) -> None:
    """A newer token was presented and is about to be stored."""
    log.info("Session %s: New JWT token detected, re-authenticating", shown(session_id))


def updated(session_id: str) -> None:
    """The newer token was stored."""
    log.info("Session %s updated with new JWT", shown(session_id))


def cached(session_id: str) -> None:
    """The current token was presented again."""
    log.debug("Using cached JWT auth for session %s", shown(session_id))


def served(decision: Decision, session_id: str) -> None:
    """A session was used without a change."""
    if decision.withholds_identity:
        log.info(
            "Session %s: a request without a token is answered as UNAUTHENTICATED",
            shown(session_id),
        )
    elif decision.principal is not None and decision.outcome is Outcome.REUSED:
        cached(session_id)


def not_issued(name: str, error: AuthError, principal: Principal, resource: str) -> None:
    """Credentials that a request asks for were not issued: its response has the reason alone. At a
    bounded rate, as clients cause it."""
    reason = error.reason
    if not _not_issued.may_pass((name, resource, reason)):
        return
    level = logging.INFO if reason.status is _OF_A_TOKEN else logging.WARNING
    log.log(
        level,
        "credentials %s are not issued: %s",
        name or "without a name",
        error,
        extra={
            "reason": reason.name,
            "subject": principal.subject,
            "issuer": principal.issuer,
            "client": principal.client_id,
            "resource": resource,
        },
    )
