"""Each client of a gateway has its own budget of rejected tokens, by the address that is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzFrame
from authsvc.tokens.jwt import JwtVerifier
from tests.support.checks import Gateway, rpc, serving_gateways, tool_call, with_gateways
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

FLOODING, OTHER = "198.51.100.6", "198.51.100.7"
HEADER = "x-envoy-external-address"
ROUTE = {"resource": RESOURCE}

LIMITS = {
    "rejected_tokens_per_second": 1,
    "rejected_tokens_burst": 4,
    "rejected_tokens_per_second_per_client": 1,
    "rejected_tokens_burst_per_client": 2,
}
OF_CLIENT = "limits.rejected_tokens_per_second_per_client"
OF_GATEWAY = "limits.rejected_tokens_per_second"


class Checks:
    """Checks of one gateway."""

    def __init__(self, gateway: Gateway, idp: IdentityProvider) -> None:
        self._gateway = gateway
        self._idp = idp

    async def status(self, token: str, peer: str, **arguments: Any) -> int:  # noqa: ANN401
        """The status of a tool call; 0 if it is admitted."""
        return (await self._gateway.post(tool_call(), token=token, peer=peer, **arguments)).status

    async def forged(self, peer: str, count: int = 1, **arguments: Any) -> list[int]:  # noqa: ANN401
        """The statuses of calls with forged tokens, each another one."""
        return [await self.status(self._idp.forged(), peer, **arguments) for _ in range(count)]

    async def fresh(self, peer: str, count: int = 1, **arguments: Any) -> list[int]:  # noqa: ANN401
        """The statuses of calls with valid tokens, each a new one."""
        tokens = [self._idp.token(f"user-{peer}-{number}") for number in range(count)]
        return [await self.status(token, peer, **arguments) for token in tokens]


@asynccontextmanager
async def checking(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    *,
    limits: Mapping[str, float] = LIMITS,
    route: Mapping[str, object] = ROUTE,
    **ext_authz: object,
) -> AsyncIterator[Checks]:
    """A gateway of an authsvc with such settings."""
    settings = settings_for(tmp_path, idp, limits=limits, **with_gateways(route, **ext_authz))
    async with serving_gateways(settings, clock) as behind:
        yield Checks(behind.gateway, idp)


@pytest.fixture
async def checks(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Checks]:
    async with checking(tmp_path, clock, idp) as running:
        yield running


def events(caplog: pytest.LogCaptureFixture, event_type: str, *names: str) -> list[Sequence[str]]:
    """These fields of the events of one type."""
    found = [it.__dict__ for it in caplog.records if it.name == "authsvc.security"]
    return [tuple(it[name] for name in names) for it in found if it["event_type"] == event_type]


async def test_a_flood_of_one_client_is_its_own(
    checks: Checks,
    idp: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = idp.token("known")
    assert await checks.status(known, FLOODING) == 0
    assert await checks.forged(FLOODING, 100) == [401] * 2 + [429] * 98
    assert await checks.fresh(OTHER, 20) == [0] * 20
    assert await checks.status(known, FLOODING) == 0
    assert await checks.forged(OTHER) == [401]
    assert events(caplog, "LIMIT_REACHED", "setting", "caller", "client_address") == [
        (OF_CLIENT, "local", FLOODING)
    ]
    rejected = [(address,) for address in (FLOODING, FLOODING, OTHER)]
    assert events(caplog, "TOKEN_REJECTED", "client_address") == rejected

    def verify(*_: object, **__: object) -> None:
        raise AssertionError("no signature is verified for it")

    monkeypatch.setattr(JwtVerifier, "verify", verify)
    for session in ("", "s"):
        token = idp.token(f"new-{session}")
        assert await checks.status(token, FLOODING, session=session) == 429


async def test_a_client_may_try_again(checks: Checks, clock: Clock) -> None:
    assert await checks.forged(FLOODING, 3) == [401, 401, 429]
    clock.advance(1)
    assert await checks.fresh(FLOODING) == [0]
    assert await checks.forged(FLOODING, 2) == [401, 429]


async def test_valid_tokens_take_nothing_of_a_budget(checks: Checks) -> None:
    assert await checks.fresh(FLOODING, 20) == [0] * 20
    assert await checks.forged(FLOODING, 3) == [401, 401, 429]


async def test_many_clients_reach_the_limit_of_their_gateway(
    checks: Checks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        assert await checks.forged(f"198.51.100.{number}", 3) == [401, 401, 429]
    assert await checks.forged(OTHER) == [429]
    assert await checks.fresh(OTHER) == [429]
    # It took nothing of the client's own budget.
    assert events(caplog, "LIMIT_REACHED", "setting", "client_address") == [
        (OF_CLIENT, "198.51.100.1"),
        (OF_GATEWAY, OTHER),
    ]
    clock.advance(4)
    assert await checks.forged(OTHER, 3) == [401, 401, 429]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.6", FLOODING, True),
        ("fe80::1%eth0", "fe80::1%\x00\n", True),
        (FLOODING, OTHER, False),
    ],
)
async def test_which_addresses_are_one_client(
    checks: Checks, caplog: pytest.LogCaptureFixture, first: str, second: str, is_same: bool
) -> None:
    assert await checks.forged(first, 2) == [401] * 2
    assert await checks.forged(second) == [429 if is_same else 401]
    # A zone, which may be any text, is not named.
    named = [address for (address,) in events(caplog, "TOKEN_REJECTED", "client_address")]
    assert all(address == str(ip_address(address)) and "%" not in address for address in named)


@pytest.mark.parametrize("peer", ["", "/run/gateway.sock", "localhost", "198.51.100.6\n", "1" * 50])
async def test_without_an_address_the_limit_of_the_gateway_holds(
    checks: Checks, caplog: pytest.LogCaptureFixture, peer: str
) -> None:
    assert await checks.forged(peer, 5) == [401] * 4 + [429]
    assert events(caplog, "LIMIT_REACHED", "setting", "client_address") == [(OF_GATEWAY, "")]
    assert events(caplog, "TOKEN_REJECTED", "client_address") == [("",)] * 4


@pytest.mark.parametrize("as_map", [True, False])
async def test_a_header_names_the_client(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, *, as_map: bool
) -> None:
    def told(*addresses: str) -> dict[str, Any]:
        return {"headers": [(HEADER, address) for address in addresses], "as_map": as_map}

    async with checking(tmp_path, clock, idp, client_address_header=HEADER) as checks:
        balancer = "10.0.0.1"
        assert await checks.forged(balancer, 3, **told(FLOODING)) == [401, 401, 429]
        assert await checks.fresh(balancer, 3, **told(OTHER)) == [0] * 3
        # Without one address in it, the limit of the gateway holds.
        for other in (told(), told(FLOODING, OTHER), told("unknown")):
            token = idp.token(f"user of {other}")
            assert await checks.status(token, balancer, **other) == 0
        assert await checks.forged(balancer, 3, **told()) == [401, 401, 429]


async def test_a_header_that_is_not_configured_is_not_read(checks: Checks) -> None:
    claimed = {"headers": [(HEADER, OTHER), ("x-forwarded-for", OTHER)]}
    assert await checks.forged(FLOODING, 3, **claimed) == [401, 401, 429]
    assert await checks.fresh(OTHER) == [0]


async def test_events_of_other_limits_and_other_subjects_name_the_client(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    limits = {"anonymous_sessions_per_second": 1, "anonymous_sessions_burst": 1}
    route = {**ROUTE, "adopt_sessions": False}
    settings = settings_for(tmp_path, idp, limits=limits, **with_gateways(route))
    async with serving_gateways(settings, clock) as behind:
        gateway = behind.gateway
        opened = await gateway.post(rpc("initialize"), token=idp.token(), peer=OTHER)
        session = opened.to_client["mcp-session-id"]
        taken = await gateway.post(
            tool_call(), token=idp.token("bob"), session=session, peer=FLOODING
        )
        assert taken.status == 404
        for _ in range(2):
            answer = await gateway.post(rpc("initialize"), peer=FLOODING)
        assert answer.refusal == (429, "SESSION_LIMIT")
    for event_type in ("SUBJECT_MISMATCH", "LIMIT_REACHED"):
        assert events(caplog, event_type, "client_address") == [(FLOODING,)]


async def test_a_minted_session_counts_for_its_client(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    route = {**ROUTE, "adopt_sessions": False}
    settings = settings_for(tmp_path, idp, limits=LIMITS, **with_gateways(route))
    async with serving_gateways(settings, clock) as behind:
        opening = rpc("initialize")
        statuses = [
            (await behind.gateway.post(opening, token=idp.forged(), peer=FLOODING)).status
            for _ in range(3)
        ]
        assert statuses == [401, 401, 429]
        assert (await behind.gateway.post(opening, token=idp.token(), peer=OTHER)).allowed


@pytest.mark.parametrize("name", ["X-Client", "x client", "x-client:", "x-client\n", "x" * 128])
def test_what_is_no_header_is_invalid(tmp_path: Path, idp: IdentityProvider, name: str) -> None:
    with pytest.raises(ValidationError, match="name of a header, in lower case"):
        settings_for(tmp_path, idp, **with_gateways(client_address_header=name))


def test_a_peer_or_a_header_that_cannot_be_read_names_nobody() -> None:
    frame = ExtAuthzFrame()
    attributes = frame.attributes
    attributes.source = b"\xff"
    attributes.request.http.method = "GET"
    attributes.request.http.headers.append(b"\n%c%b\xff" % (len(HEADER), HEADER.encode()))
    check = EncodedCheck.of(frame.SerializeToString())
    assert check.peer() == ""
    assert check.values(HEADER) == []
