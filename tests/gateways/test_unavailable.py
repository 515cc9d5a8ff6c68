"""authsvc as processes: two replicas over one store, one of them, and none at all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import httpx2
import pytest

from authsvc.client import AdminClient
from tests.gateways.deployed import Configuration, cluster_of
from tests.gateways.harness import Gateway, asked, refusal, said, serving
from tests.gateways.replicas import KIND, Replicas, serving_replicas
from tests.mcp_adapter.harness import Endpoint, call, initialize, opened, request
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 1.0
"""How long after a revocation a replica may not know of it."""

IN_A_ROW = 20


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with serving_replicas(tmp_path_factory.mktemp("replicas")) as running:
        yield running


@pytest.fixture
async def client(replicas: Replicas) -> AsyncIterator[Endpoint]:
    async with replicas.gateway.client() as speaking:
        yield speaking


SESSION_REVOKED, TOKEN_REVOKED = (404, "SESSION_NOT_FOUND"), (401, "TOKEN_REVOKED")

Revoke = Callable[[AdminClient, str], Awaitable[object]]


@pytest.mark.parametrize(
    ("subject", "revoke", "expected"),
    [
        ("carol", lambda operator, session: operator.revoke_session(session), SESSION_REVOKED),
        ("dora", lambda operator, _: operator.revoke_subject(ISSUER, "dora"), TOKEN_REVOKED),
        ("eve", lambda operator, _: operator.revoke_token(ISSUER, "token-of-eve"), TOKEN_REVOKED),
    ],
    ids=["session", "subject", "token"],
)
async def test_no_assertion_after_a_revocation(
    replicas: Replicas,
    client: Endpoint,
    subject: str,
    revoke: Revoke,
    expected: tuple[int, str],
) -> None:
    """By the assertions' own time: on each replica they end within the bound."""
    token = replicas.gateway.token(subject, jti=f"token-of-{subject}")
    session = await opened(client)
    for _ in range(IN_A_ROW):
        assert said(await asked(client, session, token))["sub"] == subject

    async with replicas.gateway.authsvc.operated() as operator:
        await revoke(operator, session)
    acknowledged = time.time()

    refused = 0
    with anyio.fail_after(TIMEOUT_SECONDS):
        while refused < IN_A_ROW:
            answer = await asked(client, session, token)
            if answer.status_code == 200:
                assert said(answer)["iat"] <= acknowledged + BOUND_SECONDS
                refused = 0
            else:
                assert refusal(answer) == expected
                refused += 1


async def test_a_session_is_the_same_on_each_replica(replicas: Replicas, client: Endpoint) -> None:
    """Role switch, another subject, without a token: whichever replica is asked."""
    now = time.time()
    gateway = replicas.gateway
    reader, analyst = gateway.token(iat=now), gateway.token(role="analyst", iat=now + 1)
    session = await opened(client)
    for _ in range(IN_A_ROW):
        for token, role in ((reader, "reader"), (analyst, "analyst")):
            assert said(await asked(client, session, token))["roles"] == [role]
        stranger = await asked(client, session, gateway.token("mallory"))
        assert refusal(stranger) == (404, "SESSION_NOT_FOUND")
        assert (await client.post(call("whoami"), session=session)).status_code == 401


@pytest.fixture
async def impatient(replicas: Replicas) -> AsyncIterator[Endpoint]:
    """A client of Envoy as it is deployed, once that has found authsvc healthy."""
    async with replicas.deployed.client() as speaking:
        with anyio.fail_after(TIMEOUT_SECONDS):
            while (await speaking.http.get("/mcp")).status_code == 503:
                pass
        yield speaking


async def clusters_of(gateway: Gateway) -> str:
    """What Envoy knows of the servers behind it."""
    transport = httpx2.AsyncHTTPTransport(uds=str(gateway.admin))
    async with httpx2.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS) as http:
        return (await http.get("http://envoy/clusters")).text


async def test_one_of_two_does_not_answer(
    replicas: Replicas, client: Endpoint, impatient: Endpoint
) -> None:
    """Envoy finds it out by its health checks, and asks the other one alone."""
    token = replicas.gateway.token()
    session = await opened(client)
    assert said(await asked(client, session, token))["sub"] == "alice"
    frozen = replicas.each[1].process
    frozen.kill(signal.SIGSTOP)
    try:
        in_a_row, found_out = 0, False
        with anyio.fail_after(TIMEOUT_SECONDS):
            while in_a_row < IN_A_ROW or not found_out:
                answer = await asked(impatient, session, token)
                assert answer.status_code == 503 or said(answer)["sub"] == "alice"
                in_a_row = in_a_row + 1 if answer.status_code == 200 else 0
                found_out = "failed_active_hc" in await clusters_of(replicas.deployed)
    finally:
        frozen.kill(signal.SIGCONT)


async def test_one_of_two_is_away(replicas: Replicas, client: Endpoint) -> None:
    token = replicas.gateway.token()
    session = await opened(client)
    assert said(await asked(client, session, token))["sub"] == "alice"
    second = replicas.each[1]
    second.process.kill(signal.SIGKILL)
    second.process.wait(TIMEOUT_SECONDS)
    for _ in range(IN_A_ROW):
        assert said(await asked(client, session, token))["sub"] == "alice"
    second.start()


async def test_authsvc_does_not_answer(
    replicas: Replicas, client: Endpoint, impatient: Endpoint
) -> None:
    token = replicas.gateway.token()
    session = await opened(client)
    assert said(await asked(client, session, token))["sub"] == "alice"
    replicas.kill(signal.SIGSTOP)
    try:
        await check_closed(replicas.gateway, impatient, session)
    finally:
        replicas.kill(signal.SIGCONT)

    assert said(await served(client, session, token))["sub"] == "alice"


async def test_authsvc_is_away_and_comes_back(replicas: Replicas, client: Endpoint) -> None:
    """The last one: it restarts what the tests share."""
    token = replicas.gateway.token()
    session = await opened(client)
    assert said(await asked(client, session, token))["sub"] == "alice"
    replicas.kill(signal.SIGKILL)
    for replica in replicas.each:
        replica.process.wait(TIMEOUT_SECONDS)

    await check_closed(replicas.gateway, client, session)

    for replica in replicas.each:
        replica.start()
    assert said(await served(client, session, token))["sub"] == "alice"


def known_as(name: str) -> Callable[[Configuration], None]:
    """Envoy presents another certificate; none for an empty name."""

    def change(configuration: Configuration) -> None:
        context = cluster_of(configuration, "authsvc")["transport_socket"]["typed_config"]
        common = context["common_tls_context"]
        (secret,) = common.pop("tls_certificate_sds_secret_configs")
        folder = Path(secret["sds_config"]["path_config_source"]["path"]).parent
        if name:
            files = {"certificate_chain": f"{name}.pem", "private_key": f"{name}.key"}
            named = {kind: {"filename": str(folder / file)} for kind, file in files.items()}
            common["tls_certificates"] = [named]

    return change


@pytest.mark.parametrize(("name", "status"), [("", 503), ("server", 503), ("operator", 403)])
async def test_a_gateway_that_is_not_registered(tmp_path: Path, name: str, status: int) -> None:
    """Without a certificate, with one that nobody is known by, and with an operator's."""
    with serving(KIND, tmp_path, change=known_as(name)) as gateway:
        async with gateway.client() as client:
            await check_closed(gateway, client, "any", status=status)


async def check_closed(
    gateway: Gateway, client: Endpoint, session: str, *, status: int = 503
) -> None:
    """Nothing is let in: neither a caller who was a moment ago, nor what is open to everyone."""
    gateway.seen.clear()
    headers = {"Mcp-Session-Id": session, "Authorization": f"Bearer {gateway.token()}"}
    answers = await asyncio.gather(
        client.post(call("whoami"), session=session, token=gateway.token()),
        client.post(call("whoami"), session=session, token=gateway.idp.forged()),
        client.post(request("tools/list"), session=session),
        client.post(initialize(), version=None),
        client.http.get("/mcp", headers=headers),
        client.http.delete("/mcp", headers=headers),
    )
    for answer in answers:
        assert answer.status_code == status
        assert "www-authenticate" not in answer.headers
    assert not gateway.seen


async def served(client: Endpoint, session: str, token: str) -> httpx2.Response:
    """The answer, once authsvc is there again."""
    with anyio.fail_after(TIMEOUT_SECONDS):
        while (answer := await asked(client, session, token)).status_code == 503:
            pass
    return answer
