"""An upstream with sessions of its own: an id is adopted at its first authenticated use.

The rows of the decision table by their number, where they could differ from
``test_decision_table.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from authsvc.client import AuthError, Reason
from tests.gateways.configured import AUTHENTICATED_SECONDS
from tests.gateways.harness import Gateway, asked, refusal, said, serving, who
from tests.gateways.upstreams import ASSERTION
from tests.mcp_adapter.harness import LEGACY, Endpoint, call, initialize, opened, request
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

NOT_FOUND = (404, "SESSION_NOT_FOUND")


@pytest.fixture(scope="module")
def time() -> Clock:
    """Of authsvc, the tokens and the upstream; tests only move it on."""
    return Clock()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, time: Clock) -> Iterator[Gateway]:
    with serving("sdk-stateful", tmp_path_factory.mktemp("adopted"), clock=time) as running:
        yield running


async def is_known(gateway: Gateway, session: str) -> bool:
    """Whether authsvc has a record of a session."""
    async with gateway.authsvc.operated() as operator:
        try:
            await operator.get(session)
        except AuthError as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            return False
        return True


async def test_row_1(client: Endpoint, gateway: Gateway) -> None:
    session = await opened(client)

    assert not any(seen.values(ASSERTION) for seen in gateway.seen)
    assert not await is_known(gateway, session)


async def test_row_2(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)

    (seen,) = gateway.seen
    assert len(seen.values(ASSERTION)) == 1
    assert await who(client, session, token) == ("alice", ["reader"])
    assert await is_known(gateway, session)


async def test_row_3(client: Endpoint, gateway: Gateway) -> None:
    opening = await client.post(initialize(), token=gateway.idp.forged(), version=None)
    assert refusal(opening) == (401, "TOKEN_SIGNATURE_INVALID")
    assert not gateway.seen

    session = await opened(client)
    used = await asked(client, session, gateway.idp.forged())
    assert refusal(used) == (401, "TOKEN_SIGNATURE_INVALID")
    assert not await is_known(gateway, session)


async def test_row_4(client: Endpoint, gateway: Gateway) -> None:
    """The upstream alone can tell which ids are its own."""
    assert (await asked(client, "unknown")).status_code == 401
    assert refusal(await asked(client, "unknown", gateway.idp.forged()))[0] == 401
    assert not gateway.seen
    assert not await is_known(gateway, "unknown")

    answer = await asked(client, "unknown", gateway.token())
    assert answer.status_code == 404
    (seen,) = gateway.seen
    assert seen.values("mcp-session-id") == ["unknown"]


async def test_row_5(client: Endpoint, gateway: Gateway) -> None:
    session = await opened(client)
    for _ in range(2):
        answer = await client.post(request("tools/list"), session=session)
        assert answer.status_code == 200
    assert not await is_known(gateway, session)


async def test_row_6(client: Endpoint, gateway: Gateway) -> None:
    session = await opened(client)

    assert await who(client, session, gateway.token()) == ("alice", ["reader"])
    assert await is_known(gateway, session)


async def test_row_7(client: Endpoint, gateway: Gateway) -> None:
    good = gateway.token()
    session = await opened(client, good)
    assert await who(client, session, good) == ("alice", ["reader"])
    gateway.seen.clear()
    for bad in ("rubbish", gateway.idp.forged(), gateway.token(aud="https://x.example")):
        for message in (call("whoami"), request("ping")):
            assert (await client.post(message, session=session, token=bad)).status_code == 401
    assert not gateway.seen
    assert await who(client, session, good) == ("alice", ["reader"])


async def test_row_9(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    token = gateway.token(exp=time() + 60)
    session = await opened(client)
    assert await who(client, session, token) == ("alice", ["reader"])
    time.advance(90)

    assert refusal(await asked(client, session, token)) == (401, "TOKEN_EXPIRED")
    assert await who(client, session, gateway.token()) == ("alice", ["reader"])


async def test_rows_10_and_11(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    reader = gateway.token()
    session = await opened(client)
    time.advance(1)
    analyst = gateway.token(role="analyst")
    for token, role in (
        *((reader, "reader"), (analyst, "analyst")),
        *((reader, "reader"), (analyst, "analyst")),
    ):
        assert await who(client, session, token) == ("alice", [role])


async def test_row_12(client: Endpoint, gateway: Gateway) -> None:
    """The first who uses an id with a token has it; nobody else does, not to end it either."""
    session = await opened(client)
    assert await who(client, session, gateway.token()) == ("alice", ["reader"])
    gateway.seen.clear()

    for message in (call("whoami"), request("ping"), request("tools/list")):
        stranger = await client.post(message, session=session, token=gateway.token("mallory"))
        assert refusal(stranger) == NOT_FOUND
    for method in ("GET", "DELETE"):
        stranger = await sent(client, method, session, gateway.token("mallory"))
        assert refusal(stranger) == NOT_FOUND
    assert not gateway.seen
    assert await who(client, session, gateway.token()) == ("alice", ["reader"])


async def sent(client: Endpoint, method: str, session: str, token: str = "") -> httpx2.Response:
    """A request of the session itself; a stream that it opens is not read."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": LEGACY,
        "Mcp-Session-Id": session,
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    async with client.http.stream(method, "/mcp", headers=headers) as answer:
        if answer.headers.get("content-type") == "application/json":
            await answer.aread()
    return answer


async def test_row_13(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await opened(client)
    assert await who(client, session, token) == ("alice", ["reader"])
    gateway.seen.clear()

    answer = await asked(client, session)
    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]
    # What is open elsewhere, too: it could answer in the owner's name, or cancel what they asked.
    reply = {"jsonrpc": "2.0", "id": 7, "result": {}}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    for message in (request("ping"), request("tools/list"), reply, cancelled):
        assert (await client.post(message, session=session)).status_code == 401
    for method in ("GET", "DELETE"):
        assert (await sent(client, method, session)).status_code == 401
    assert not gateway.seen
    assert await who(client, session, token) == ("alice", ["reader"])


async def test_row_14(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await opened(client)
    assert await who(client, session, token) == ("alice", ["reader"])
    async with gateway.authsvc.operated() as operator:
        await operator.revoke_session(session)
    gateway.seen.clear()

    for presented in (None, token):
        assert refusal(await asked(client, session, presented)) == NOT_FOUND
    assert not gateway.seen


async def test_row_15(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    session = await opened(client)
    assert await who(client, session, gateway.token()) == ("alice", ["reader"])
    time.advance(AUTHENTICATED_SECONDS)

    assert refusal(await asked(client, session, gateway.token())) == NOT_FOUND


async def test_rows_16_and_17(client: Endpoint, gateway: Gateway, time: Clock) -> None:
    """A request of 2026-07-28 belongs to no session of the upstream's."""

    async def modern(token: str | None) -> httpx2.Response:
        return await client.modern("tools/call", {"name": "whoami", "arguments": {}}, token=token)

    assert (await modern(None)).status_code == 401
    reader = gateway.token()
    time.advance(1)
    analyst = gateway.token(role="analyst")
    for token, role in ((reader, "reader"), (analyst, "analyst"), (reader, "reader")):
        claims = said(await modern(token))
        assert (claims["sub"], claims["roles"]) == ("alice", [role])
    assert refusal(await modern(gateway.idp.forged())) == (401, "TOKEN_SIGNATURE_INVALID")


async def test_a_stream_of_the_session_is_its_owners(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await opened(client)
    assert await who(client, session, token) == ("alice", ["reader"])

    answer = await sent(client, "GET", session, token)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")


async def test_an_id_counts_where_it_was_authorised(client: Endpoint, gateway: Gateway) -> None:
    """Of a session that is another's, in requests that belong to none."""
    session = await opened(client)
    assert await who(client, session, gateway.token("victim")) == ("victim", ["reader"])
    gateway.seen.clear()

    for token in (None, gateway.token("mallory")):
        opening = await client.post(initialize(), session=session, token=token, version=None)
        assert opening.headers["mcp-session-id"] != session
        listed = await client.modern("tools/list", session=session, token=token)
        assert listed.status_code == 200
    assert len(gateway.seen) == 4
    assert not any(seen.values("mcp-session-id") for seen in gateway.seen)


@pytest.mark.parametrize("session", [b"x" * 5000, b"a b", b"\xe9"])
async def test_what_is_no_id_is_not_adopted(
    client: Endpoint, gateway: Gateway, session: bytes
) -> None:
    headers = [
        (b"Accept", b"application/json, text/event-stream"),
        (b"Authorization", f"Bearer {gateway.token()}".encode()),
        (b"MCP-Protocol-Version", LEGACY.encode()),
        (b"Mcp-Session-Id", session),
    ]
    answer = await client.http.post("/mcp", json=call("whoami"), headers=headers)

    assert refusal(answer) == NOT_FOUND
    assert not gateway.seen


async def test_an_empty_id_is_none(client: Endpoint, gateway: Gateway) -> None:
    answer = await asked(client, "", gateway.token())

    assert answer.status_code == 400
    (seen,) = gateway.seen
    assert not seen.values("mcp-session-id")


async def test_its_owner_ends_it_here_and_there(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await opened(client)
    assert await who(client, session, token) == ("alice", ["reader"])
    gateway.seen.clear()

    assert (await sent(client, "DELETE", session, token)).status_code == 200
    (seen,) = gateway.seen
    assert (seen.method, seen.values("mcp-session-id")) == ("DELETE", [session])
    assert refusal(await asked(client, session, token)) == NOT_FOUND
