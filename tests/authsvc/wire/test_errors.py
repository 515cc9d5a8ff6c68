"""What a status says of whose request it is, and of what has failed."""

from __future__ import annotations

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, Principal
from authsvc.wire.errors import MAX_WHO_BYTES, error_of, rpc_status_of

LONG = "x" * MAX_WHO_BYTES
ACTOR = Actor("agent", "https://idp.example", "app", Actor("planner"))
WHO = Principal("https://idp.example", "alice", 0.0, client_id="app", actor=ACTOR)


def sent(principal: Principal | None) -> Principal | None:
    status = rpc_status_of(AuthError(Reason.RATE_LIMITED, limit="l", principal=principal))
    error = error_of(type(status).FromString(status.SerializeToString()))
    assert error is not None
    assert (error.reason, error.limit) == (Reason.RATE_LIMITED, "l")
    return error.principal


@pytest.mark.parametrize(
    ("principal", "arrives"),
    [
        (None, None),
        (
            Principal(
                "https://idp.example",
                "alice",
                2e9,
                client_id="app",
                scopes=("s",),
                roles=("r",),
                claims_json=b'{"a": 1}',
                actor=ACTOR,
            ),
            WHO,
        ),
        (
            Principal("https://idp.example", "alice", 2e9, actor=Actor(LONG)),
            Principal("https://idp.example", "alice", 0.0),
        ),
        (Principal("https://idp.example", LONG, 2e9), None),
    ],
)
def test_an_error_says_whose_request_it_is_and_nothing_else_of_the_token(
    principal: Principal | None, arrives: Principal | None
) -> None:
    found = sent(principal)
    assert found == arrives


@pytest.mark.parametrize("of_write", [False, True])
def test_a_failed_write_is_told_from_other_failures(of_write: bool) -> None:
    error = error_of(rpc_status_of(AuthError(Reason.STORE_UNAVAILABLE, of_write=of_write)))
    assert error is not None
    assert error.of_write is of_write
    assert error.raisable().of_write is of_write
