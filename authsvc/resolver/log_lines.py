"""The log lines about sessions that operators search for: their text is stable."""

from __future__ import annotations

import logging

from authsvc.domain.decision import Decision
from authsvc.domain.resolution import Outcome, shown

log = logging.getLogger(__name__)


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
