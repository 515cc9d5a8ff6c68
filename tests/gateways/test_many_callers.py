"""Eighty callers at once, each of whom switches roles: nobody is taken for another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.gateways.harness import Gateway, said, serving
from tests.mcp_adapter.harness import Endpoint, call, opened
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

CALLERS = 80
ROLES = ("reader", "analyst", "reader")


MODERN = "modern"
"""Without sessions: authsvc finds each caller's own by the token."""


@pytest.fixture(scope="module", params=["sdk-stateful", "sdk-stateless", MODERN])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    adopts = request.param == "sdk-stateful"
    kind = "sdk-stateless" if request.param == MODERN else request.param
    with serving(kind, folder, clock=Clock(), adopt_sessions=adopts) as running:
        yield running


async def test_each_is_who_they_are(request: pytest.FixtureRequest, gateway: Gateway) -> None:
    issued = gateway.idp.clock()
    is_modern = request.node.callspec.params["gateway"] == MODERN
    params = {"name": "whoami", "arguments": {}}

    async def who(client: Endpoint, session: str, token: str, number: int) -> tuple[str, str]:
        # Requests at once on one session have ids of their own.
        asked = call("whoami", request_id=number)
        claims = said(
            await client.modern("tools/call", params, token=token)
            if is_modern
            else await client.post(asked, session=session, token=token)
        )
        (role,) = claims["roles"]
        return claims["sub"], role

    async def calls(client: Endpoint, number: int) -> list[tuple[str, str]]:
        """What a caller is answered: with each of three tokens alone, then with two at once."""
        subject = f"caller-{number}"
        tokens = [
            gateway.token(subject, role, iat=issued + later) for later, role in enumerate(ROLES)
        ]
        session = "" if is_modern else await opened(client)
        alone = [await who(client, session, token, 1) for token in tokens]
        at_once = (who(client, session, token, later) for later, token in enumerate(tokens[1:]))
        return alone + await asyncio.gather(*at_once)

    async with gateway.client() as client:
        answers = await asyncio.gather(*(calls(client, number) for number in range(CALLERS)))

    expected = [*ROLES, *ROLES[1:]]
    for number, answer in enumerate(answers):
        assert answer == [(f"caller-{number}", role) for role in expected]
