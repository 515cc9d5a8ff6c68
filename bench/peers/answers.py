"""What each peer answers where identities go stale, found out by asking."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlencode

import httpx2

from authsvc.client import AuthClient
from bench.peers.client import Answer, connected
from bench.peers.idp import TOKEN_SECONDS, Idp
from bench.peers.sides import Peers, Side

ASKED = ("pyjwt", "fastmcp", "introspection", "behind_envoy", "checked", "gate", "adapter")
"""Sides that authorise."""


class Scenario:
    """One session of the handshake era, that ada opens with a good token.

    Each request has a connection of its own: who refuses one unread may close what it came by.

    Args:
        peers: all that run.
        side: which is asked.
    """

    def __init__(self, peers: Peers, side: Side) -> None:
        self.peers = peers
        self.side = side
        self.idp: Idp = peers.idp
        self.token = peers.idp.token("ada", "reader")
        self.session = ""

    async def open(self, token: str | None = None) -> Answer:
        """Initialise; by default with ada's token."""
        async with connected(self.side.address) as connection:
            opened = await connection.initialize(self.token if token is None else token)
        self.session = opened.session_id
        return opened

    async def ask(self, token: str) -> Answer:
        """Call the tool on the session."""
        async with connected(self.side.address) as connection:
            return await connection.whoami(token, self.session)


async def _anonymous_then_token(it: Scenario) -> str:
    opened = await it.open("")
    if opened.status != HTTPStatus.OK:
        return f"{opened.status} to initialize"
    return _told(await it.ask(it.token))


async def _role_switch(it: Scenario) -> str:
    await it.open()
    await it.ask(it.token)
    return _told(await it.ask(it.idp.token("ada", "writer")))


async def _hijacked(it: Scenario) -> str:
    await it.open()
    return _told(await it.ask(it.idp.token("bob")))


async def _forged_then_good(it: Scenario) -> str:
    await it.open()
    forged = await it.ask(Idp().token("ada", "admin"))
    return f"{_told(forged)}, then {_told(await it.ask(it.token))}"


async def _expired(it: Scenario) -> str:
    await it.open()
    return _told(await it.ask(it.idp.token("ada", age_seconds=2 * TOKEN_SECONDS)))


async def _elsewhere(it: Scenario) -> str:
    await it.open()
    return _told(await it.ask(it.idp.token("ada", audience="https://other.example/mcp")))


async def _no_token(it: Scenario) -> str:
    await it.open()
    return _told(await it.ask(""))


async def _listing(it: Scenario) -> str:
    await it.open()
    async with connected(it.side.address) as connection:
        listing = connection.request("tools/list", {}, "", it.session, era="legacy")
        answer = await connection.exchange(listing)
    return "listed" if b'"whoami"' in answer.body else str(answer.status)


async def _revoked_token(it: Scenario) -> str:
    await it.open()
    await it.ask(it.token)
    async with httpx2.AsyncClient(trust_env=False) as client:
        body = urlencode({"token": it.token})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"http://{it.peers.issuer}/revoke"
        (await client.post(url, content=body, headers=kind)).raise_for_status()
    return _told(await it.ask(it.token))


async def _ended_session(it: Scenario) -> str:
    """As an operator of authsvc would; the others have nothing to end it by."""
    if "authsvc" not in it.side.processes:
        return "cannot be done"
    await it.open()
    await it.ask(it.token)
    async with AuthClient(it.peers.authsvc) as client:
        await client.revoke(it.session)
    return _told(await it.ask(it.token))


async def _unknown_session(it: Scenario) -> str:
    # Anew for each side: behind Envoy, authsvc adopts what it takes for an id of the server's.
    it.session = f"no-such-session-{secrets.token_hex(8)}"
    return _told(await it.ask(it.token))


SCENARIOS: Mapping[str, Callable[[Scenario], Awaitable[str]]] = {
    "initialize without a token, then a call with ada's": _anonymous_then_token,
    "ada's role changes from reader to writer on her session": _role_switch,
    "a call without a token on ada's session": _no_token,
    "tools/list without a token on ada's session": _listing,
    "bob's token on ada's session": _hijacked,
    "a forged token on ada's session, then her own": _forged_then_good,
    "an expired token": _expired,
    "a token for another server": _elsewhere,
    "a session id that nobody was given": _unknown_session,
    "a token revoked at its issuer": _revoked_token,
    "a session ended from outside": _ended_session,
}
"""What is asked, and how."""


async def answers(peers: Peers) -> dict[str, dict[str, str]]:
    """What each side answers, by scenario and side."""
    return {
        text: {name: await scenario(Scenario(peers, peers.sides[name])) for name in ASKED}
        for text, scenario in SCENARIOS.items()
    }


def _told(answer: Answer) -> str:
    """The HTTP status, or whom the tool saw."""
    if answer.status != HTTPStatus.OK:
        return str(answer.status)
    return f"served as {answer.text}" if answer.text else "error of the tool"
