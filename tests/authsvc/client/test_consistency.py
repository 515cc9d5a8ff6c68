"""Read your writes: which consistency tokens go with which requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from authsvc.client import AuthClient
from authsvc.client.consistency import KEEP_SECONDS, MAX_TOKENS, ConsistencyTokens
from tests.authsvc.client.fleet import RESOURCE, FakeReplica, fleet
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.tokens import OTHER_RESOURCE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def replica() -> AsyncIterator[FakeReplica]:
    async with fleet(1) as [replica]:
        yield replica


@pytest.fixture
async def client(replica: FakeReplica, clock: Clock) -> AsyncIterator[AuthClient]:
    async with AuthClient(replica.address, deadline_seconds=TIMEOUT_SECONDS, clock=clock) as client:
        yield client


async def sent(
    client: AuthClient, replica: FakeReplica, session_id: str, resource: str = RESOURCE
) -> str:
    """The token that goes with a resolve of a session, which writes nothing."""
    replica.written = ""
    await client.resolve(session_id, "", resource=resource)
    token: str = replica.asked[-1].request.consistency_token  # type: ignore[union-attr] # resolve's
    return token


async def test_what_a_resolve_wrote_goes_with_the_next(
    client: AuthClient, replica: FakeReplica, clock: Clock
) -> None:
    replica.written = "one"
    await client.resolve("s", "", resource=RESOURCE)
    assert await sent(client, replica, "s") == "one"
    assert await sent(client, replica, "s", OTHER_RESOURCE) == "one"
    assert await sent(client, replica, "other") == ""
    assert await sent(client, replica, "") == ""
    replica.written = "two"
    await client.resolve("s", "", resource=RESOURCE)
    clock.advance(KEEP_SECONDS - 0.1)
    assert await sent(client, replica, "s") == "two"
    clock.advance(0.2)
    assert await sent(client, replica, "s") == ""


async def test_a_principal_session_is_known_by_its_resource(
    client: AuthClient, replica: FakeReplica
) -> None:
    replica.written = "mine"
    await client.resolve("", "token", resource=RESOURCE)
    assert await sent(client, replica, "") == "mine"
    assert await sent(client, replica, "", OTHER_RESOURCE) == ""
    # A session may well be called as a resource is.
    assert await sent(client, replica, RESOURCE) == ""


async def test_what_creating_wrote_goes_with_the_first_resolve(
    client: AuthClient, replica: FakeReplica
) -> None:
    replica.written = "made"
    created = await client.create("", resource=RESOURCE)
    assert created.session is not None
    assert await sent(client, replica, created.session.id) == "made"


async def test_what_revoking_wrote_is_in_the_trailing_metadata(
    client: AuthClient, replica: FakeReplica
) -> None:
    replica.written = "ended"
    await client.revoke("s")
    assert await sent(client, replica, "s") == "ended"
    replica.written = ""
    await client.revoke("unknown")
    assert await sent(client, replica, "unknown") == ""


def test_an_end_is_not_forgotten_for_an_answer_that_was_under_way(clock: Clock) -> None:
    tokens = ConsistencyTokens(clock)
    tokens.keep(("s", ""), "ended", ends=True)
    tokens.keep(("s", ""), "late")
    assert tokens.of(("s", "")) == "ended"
    tokens.keep(("s", ""), "again", ends=True)
    assert tokens.of(("s", "")) == "again"
    clock.advance(KEEP_SECONDS)
    tokens.keep(("s", ""), "anew")
    assert tokens.of(("s", "")) == "anew"


def test_only_the_newest_are_kept(clock: Clock) -> None:
    tokens = ConsistencyTokens(clock)
    for number in range(MAX_TOKENS + 1):
        tokens.keep((str(number), ""), "token")
    assert tokens.of(("0", "")) == ""
    assert tokens.of(("1", "")) == "token"
    tokens.keep(("1", ""), "newer")
    tokens.keep(("more", ""), "token")
    assert tokens.of(("1", "")) == "newer"
    assert tokens.of(("2", "")) == ""
    clock.advance(KEEP_SECONDS)
    tokens.keep(("last", ""), "token")
    assert len(tokens._tokens) == 1
