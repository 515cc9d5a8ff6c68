"""Reads the clocks that a service depends on: of the store's servers, and of the issuers."""

from __future__ import annotations

from contextlib import suppress

from authsvc.domain.errors import AuthError
from authsvc.server.assembly import Service

STORE = "store"
"""The peer's name of the store. An issuer's is its ``iss``."""


async def clock_offsets(service: Service) -> dict[str, float]:
    """Their clocks minus ours, in seconds, by peer; without those that are unknown.

    The issuers' are of the last fetch of their keys. A store that fails has its own metrics.
    """
    measured = {} if service.signals is None else service.signals.clock_offsets()
    measured |= service.issuers.clock_offsets()
    with suppress(AuthError):
        began = service.clock()
        theirs = await service.store.server_times()
        ours = (began + service.clock()) / 2
        if theirs:
            measured[STORE] = max((it - ours for it in theirs), key=abs)
    return measured
