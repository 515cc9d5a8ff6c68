"""A request is cancelled by its own caller alone, on the session that it came on."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request

from authsvc.domain.resolution import Outcome, Principal, Resolution, Session, SessionState
from mcp_adapter.transport.cancellation import InFlight
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


def request_of(subject: str | None = "alice", session: str | None = "s1") -> Request:
    """A request as the gate passes it on."""
    who = Principal("idp", subject, 2e9) if subject else None
    opened = Session(session, SessionState.AUTHENTICATED, 1, 1.0, 2e9) if session else None
    return Request(
        {"type": "http", "state": {"resolution": Resolution(opened, Outcome.REUSED, who)}}
    )


async def outcome(
    asked: Request, request_id: int | str, cancelling: Request, params: dict[str, Any] | None
) -> str | None:
    """What becomes of a request once a cancellation has come in."""
    in_flight = InFlight()

    async def call() -> str:
        in_flight.cancel(cancelling, params)
        await anyio.lowlevel.checkpoint()
        return "done"

    with anyio.fail_after(TIMEOUT_SECONDS):
        return await in_flight.run(asked, request_id, call())


@pytest.mark.parametrize("request_id", [7, "7", 0, ""])
async def test_the_caller_of_a_request_can_cancel_it(request_id: int | str) -> None:
    params = {"requestId": request_id}
    assert await outcome(request_of(), request_id, request_of(), params) is None


@pytest.mark.parametrize(
    ("cancelling", "params"),
    [
        (request_of("bob"), {"requestId": 7}),
        (request_of(session="s2"), {"requestId": 7}),
        (request_of(None), {"requestId": 7}),
        (request_of(session=None), {"requestId": 7}),
        (request_of(), {"requestId": "7"}),
        (request_of(), {"requestId": 8}),
        (request_of(), {"requestId": [7]}),
        (request_of(), {}),
        (request_of(), None),
        (Request({"type": "http"}), {"requestId": 7}),
    ],
)
async def test_no_other_caller_can_cancel_it(
    cancelling: Request, params: dict[str, Any] | None
) -> None:
    assert await outcome(request_of(), 7, cancelling, params) == "done"


async def test_a_request_without_a_caller_cannot_be_cancelled() -> None:
    assert await outcome(request_of(None), 7, request_of(None), {"requestId": 7}) == "done"


async def test_what_has_ended_is_forgotten() -> None:
    in_flight = InFlight()

    async def call() -> str:
        return "done"

    assert await in_flight.run(request_of(), 7, call()) == "done"
    in_flight.cancel(request_of(), {"requestId": 7})
    assert await in_flight.run(request_of(), 7, call()) == "done"
    assert not in_flight._scopes
