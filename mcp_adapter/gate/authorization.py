"""Whether the caller of a request has what the request needs."""

from __future__ import annotations

from authsvc.domain.resolution import Resolution
from mcp_adapter.gate import messages, refusal_log, refusals
from mcp_adapter.gate.request_headers import RequestHeaders
from mcp_adapter.gate.requirements import Requirement, RequirementOf, required, union

OWNER = Requirement()
"""What a session's owner needs: a valid token of the session's subject."""


def requirement_for(
    requirement: RequirementOf,
    request: RequestHeaders,
    message: messages.Message,
    *,
    stateful: bool,
    opens_session: bool,
) -> Requirement | None:
    """What a message needs of its caller; None when it is open.

    In a session of a stateful app every message needs the session's owner, but for the two that
    open it.

    Raises:
        Refusal: 500. ``requirement`` has failed.
    """
    needed = union(required(requirement, *call) for call in messages.calls(message))
    if needed is not None or not stateful or not request.in_session_era:
        return needed
    return None if opens_session or _completes_initialize(message) else OWNER


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
        raise refusals.insufficient_scope(needed.scopes)


def _completes_initialize(message: messages.Message) -> bool:
    """Whether a message is the notification that follows ``initialize``, and no request."""
    return (
        isinstance(message, dict)
        and message.get("method") == "notifications/initialized"
        and "id" not in message
    )
