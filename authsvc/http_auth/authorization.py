"""Whether the caller of a request has what the request needs."""

from __future__ import annotations

from authsvc.domain.resolution import Resolution
from authsvc.http_auth import messages, refusal_log, refusals
from authsvc.http_auth.requirements import Requirement, RequirementOf, required, union

OWNER = Requirement()
"""What a session's owner needs: a valid token of the session's subject."""


def requirement_for(requirement: RequirementOf, message: messages.Message) -> Requirement | None:
    """What a message needs of its caller; None when it is open.

    Raises:
        Refusal: 500. ``requirement`` has failed.
    """
    return union([required(requirement, *call) for call in messages.calls(message)])


def authorize(resolution: Resolution, needed: Requirement | None, *, session_id: str = "") -> None:
    """
    Args:
        resolution: of the request, or of a check of its response.
        needed: what the request needs.
        session_id: the session that it names, for the log; empty for none.

    Raises:
        Refusal: 401 without an identity where one is needed, 403 when it lacks a scope.
    """
    if needed is None:
        return
    if resolution.principal is None:
        raise refusals.unauthenticated(needed.scopes)
    if not needed.met_by(resolution.principal.scopes):
        refusal_log.insufficient_scope(needed.scopes, resolution.principal, session_id)
        raise refusals.insufficient_scope(needed.scopes, resolution)


def completes_initialize(message: messages.Message) -> bool:
    """Whether a message is the notification that follows ``initialize``, and no request."""
    return (
        isinstance(message, dict)
        and message.get("method") == "notifications/initialized"
        and "id" not in message
    )
