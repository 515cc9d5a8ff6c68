"""The number of records by state, for stores that keep the state beside each record."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from authsvc.domain.events import revoked_since
from authsvc.domain.record import Record
from authsvc.domain.service_status import SessionCounts


class CountedState(IntEnum):
    """The state that a record is counted by. The values are stored."""

    UNAUTHENTICATED = 0
    AUTHENTICATED = 1
    REVOKED = 2


def counted_state(record: Record) -> CountedState:
    """The state of a record, as if it never expired."""
    if revoked_since(record) is not None:
        return CountedState.REVOKED
    return CountedState.AUTHENTICATED if record.authenticated else CountedState.UNAUTHENTICATED


def counts_of(numbers: Mapping[int, int]) -> SessionCounts:
    """The counts, from the number of records by ``CountedState``; absent ones are 0."""
    return SessionCounts(
        unauthenticated=numbers.get(CountedState.UNAUTHENTICATED, 0),
        authenticated=numbers.get(CountedState.AUTHENTICATED, 0),
        revoked=numbers.get(CountedState.REVOKED, 0),
    )
