"""Whether the caller of a request has what the request needs."""

from __future__ import annotations

from collections.abc import Sequence

from authsvc.domain.rates import ONE_CALL, CallCounts
from authsvc.domain.resolution import Resolution
from authsvc.http_auth import messages, refusal_log, refusals
from authsvc.http_auth.requirements import (
    Requirement,
    RequirementOf,
    asked_together,
    needed_for_all,
    required,
)

OWNER = Requirement()
"""What a session's owner needs: a valid token of the session's subject."""


def requirement_for(
    requirement: RequirementOf, message: messages.Message
) -> tuple[Requirement | None, CallCounts]:
    """What a message needs of its caller, None when it is open; and what it counts as.

    Raises:
        Refusal: 500. ``requirement`` has failed.
    """
    calls = messages.calls(message)
    if len(calls) == 1:
        needed = [required(requirement, *calls[0])]
    else:
        with asked_together():
            needed = [required(requirement, *call) for call in calls]
    return needed_for_all(needed), counts_of(needed)


def counts_of(needed: Sequence[Requirement | None]) -> CallCounts:
    """What a message counts as: each of its calls by itself.

    Args:
        needed: what each call needs.
    """
    limits = tuple(limit for item in needed if item is not None for limit in item.rate_limits)
    return CallCounts(limits, len(needed)) if limits or len(needed) > 1 else ONE_CALL


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
