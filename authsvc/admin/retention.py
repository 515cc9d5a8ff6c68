"""Removal of what has expired."""

from __future__ import annotations

from authsvc.domain.record import Limits
from authsvc.stores import SessionStore

NOT_BEFORES_MARGIN_SECONDS = 86_400.0
"""Not-before times outlive the tokens that they revoke, also where the clocks of replicas and
issuers differ."""


async def remove_expired(store: SessionStore, *, now: float, limits: Limits) -> None:
    """Remove expired sessions and not-before times; to be called periodically.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    await store.sweep(now)
    await store.delete_not_befores(
        now - limits.not_befores_kept_seconds - NOT_BEFORES_MARGIN_SECONDS
    )
