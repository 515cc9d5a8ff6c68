"""The state of a session, as operators see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authsvc.domain.events import RecordState, state_of
from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX, Grant, Record

VALID = Grant(b"", 10.0, 20.0)
REVOKED = replace(VALID, token_revoked=True)
BARE = Record("s", 1, 0.0, 0.0, 30.0)
OWNED = replace(BARE, issuer="idp", subject="ada", grants={"a": VALID})
BOTH = {"a": REVOKED, "b": REVOKED}


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (BARE, RecordState.UNAUTHENTICATED),
        (OWNED, RecordState.AUTHENTICATED),
        (replace(OWNED, grants={}), RecordState.AUTHENTICATED),
        (replace(OWNED, grants={**BOTH, "b": VALID}), RecordState.AUTHENTICATED),
        (replace(OWNED, grants=BOTH), RecordState.TOKENS_REVOKED),
        (replace(OWNED, grants=BOTH, revoke_time=15.0), RecordState.REVOKED),
        (replace(BARE, revoke_time=15.0), RecordState.REVOKED),
        # A principal session goes on with tokens that were issued after its revocation.
        (
            replace(OWNED, id=f"{PRINCIPAL_SESSION_PREFIX}s", grants=BOTH, revoke_time=5.0),
            RecordState.TOKENS_REVOKED,
        ),
    ],
)
def test_the_state_of_a_session(record: Record, state: RecordState) -> None:
    assert state_of(record) is state
