"""The decision table as a client of a gateway sees it: HTTP, Envoy and Check, row by row.

The upstream keeps no sessions: authsvc mints them. ``test_adoption.py`` has one that does.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.gateways.configured import AUTHENTICATED_SECONDS, UNAUTHENTICATED_SECONDS
from tests.gateways.harness import Gateway, asked, refusal, said, serving, who
from tests.gateways.upstreams import ASSERTION
from tests.mcp_adapter.harness import Endpoint, call, initialize, opened, request
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

NOT_FOUND = (404, "SESSION_NOT_FOUND")


@pytest.fixture(scope="module")
def time() -> Clock:
    """Of authsvc, the tokens and the upstream; tests only move it on."""
    return Clock()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, time: Clock) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("minted")
    with serving("sdk-stateless", folder, clock=time, adopt_sessions=False) as running:
        yield running


async def test_row_1(client: Endpoint, gateway: Gateway) -> None:
    answer = await client.post(initialize(), version=None)

    assert answer.status_code == 200
    assert len(answer.headers["mcp-session-id"]) >= 22
    (seen,) = gateway.seen
    assert not seen.values(ASSERTION)


async def test_row_2(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)

    (seen,) = gateway.seen
    assert len(seen.values(ASSERTION)) == 1
    assert await who(client, session, token) == ("alice", ["reader"])


async def test_row_3(client: Endpoint, gateway: Gateway) -> None:
    answer = await client.post(initialize(), token=gateway.idp.forged(), version=None)

    assert refusal(answer) == (401, "TOKEN_SIGNATURE_INVALID")
    assert "mcp-session-id" not in answer.headers
    assert not gateway.seen


async def test_row_4(client: Endpoint, gateway: Gateway) -> None:
    for token in (None, gateway.token(), gateway.idp.forged()):
        assert refusal(await asked(client, "unknown", token)) == NOT_FOUND
    assert not gateway.seen


async def test_row_5(client: Endpoint) -> None:
    session = await client.open()
    for _ in range(2):
        answer = await client.post(request("tools/list"), session=session)
        assert answer.status_code == 200


async def test_row_6(client: Endpoint, gateway: Gateway) -> None:
    session = await opened(client)

    assert await who(client, session, gateway.token()) == ("alice", ["reader"])


async def test_row_7(client: Endpoint, gateway: Gateway) -> None:
    good = gateway.token()
    session = await client.open(good)
    gateway.seen.clear()
    expired, foreign = gateway.token(exp=1_000_000_000), gateway.token(aud="https://x.example")
    for bad in ("rubbish", gateway.idp.forged(), expired, foreign):
        for message in (call("whoami"), request("ping")):
            answer = await client.post(message, session=session, token=bad)
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert bad not in answer.text
    assert not gateway.seen
    assert await who(client, session, good) == ("alice", ["reader"])


async def test_row_8(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)
    for _ in range(2):
        assert await who(client, session, token) == ("alice", ["reader"])


async def test_row_9(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    token = gateway.token(exp=time() + 60)
    session = await client.open(token)
    assert await who(client, session, token) == ("alice", ["reader"])
    time.advance(90)

    assert refusal(await asked(client, session, token)) == (401, "TOKEN_EXPIRED")
    assert await who(client, session, gateway.token()) == ("alice", ["reader"])


async def test_rows_10_and_11(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    """A then B on one session answers B; A again is answered with its own claims."""
    reader = gateway.token()
    session = await client.open(reader)
    time.advance(1)
    analyst = gateway.token(role="analyst")
    for token, role in ((analyst, "analyst"), (reader, "reader"), (analyst, "analyst")):
        assert await who(client, session, token) == ("alice", [role])


async def test_row_12(client: Endpoint, gateway: Gateway) -> None:
    owner = gateway.token()
    session = await client.open(owner)
    gateway.seen.clear()

    stranger = await asked(client, session, gateway.token("mallory"))
    unknown = await asked(client, "unknown", owner)

    assert refusal(stranger) == NOT_FOUND
    assert stranger.content == unknown.content
    assert not gateway.seen
    assert await who(client, session, owner) == ("alice", ["reader"])


async def test_row_13(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)
    gateway.seen.clear()

    answer = await asked(client, session)
    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]
    assert not gateway.seen

    # What is open is served without the identity of the session.
    assert (await client.post(request("tools/list"), session=session)).status_code == 200
    (seen,) = gateway.seen
    assert not seen.values(ASSERTION)
    assert await who(client, session, token) == ("alice", ["reader"])


async def test_row_14(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)
    async with gateway.authsvc.operated() as operator:
        await operator.revoke_session(session)

    for presented in (None, token):
        assert refusal(await asked(client, session, presented)) == NOT_FOUND


@pytest.mark.parametrize(
    ("authenticated", "seconds"),
    [(False, UNAUTHENTICATED_SECONDS), (True, AUTHENTICATED_SECONDS)],
)
async def test_row_15(
    client: Endpoint, gateway: Gateway, time: Clock, authenticated: bool, seconds: int
) -> None:
    session = await client.open(gateway.token() if authenticated else None)
    time.advance(seconds)

    assert refusal(await asked(client, session, gateway.token())) == NOT_FOUND


async def test_row_16(client: Endpoint, gateway: Gateway) -> None:
    answer = await client.modern("tools/call", {"name": "whoami", "arguments": {}})

    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]
    assert not gateway.seen
    assert (await client.modern("server/discover")).status_code == 200
    (seen,) = gateway.seen
    assert not seen.values(ASSERTION)


async def test_row_17(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    async def modern(token: str) -> httpx2.Response:
        return await client.modern("tools/call", {"name": "whoami", "arguments": {}}, token=token)

    reader = gateway.token()
    time.advance(1)
    analyst = gateway.token(role="analyst")
    for token, role in ((reader, "reader"), (analyst, "analyst"), (reader, "reader")):
        claims = said(await modern(token))
        assert (claims["sub"], claims["roles"]) == ("alice", [role])
    assert refusal(await modern(gateway.idp.forged())) == (401, "TOKEN_SIGNATURE_INVALID")
