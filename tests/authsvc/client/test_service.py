"""The client against real authsvc: replicas over one store, a paused process, a looked-up name."""

from __future__ import annotations

import asyncio
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from authsvc.client import AuthClient, ClientTls
from authsvc.client.breaker import FAILURES, OPEN_SECONDS
from authsvc.client.replica import Replica
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Outcome
from authsvc.net.development_certificates import write_development_certificates
from authsvc.server.running import running
from tests.authsvc.client.fleet import BOUND_SECONDS
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.sockets import serving_tcp
from tests.support.stack import RESOURCE as LOCAL_RESOURCE
from tests.support.stack import ROLES, start_authsvc
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

CALLER = "spiffe://dev/client"


@pytest.fixture
async def replicas(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> AsyncIterator[list[str]]:
    """Two replicas over one store."""
    one = settings_for(tmp_path, idp, "redis", listen="127.0.0.1:0")
    async with running(one, clock=clock) as first, running(one, clock=clock) as second:
        yield [first, second]


async def test_a_session_is_the_same_on_all_replicas(
    replicas: list[str], idp: IdentityProvider
) -> None:
    token = idp.token()
    async with AuthClient(replicas, deadline_seconds=TIMEOUT_SECONDS) as client:
        for number in range(20):
            created = await client.create(token, resource=RESOURCE)
            assert created.session is not None
            session_id = created.session.id
            answer = await client.resolve(session_id, token, resource=RESOURCE)
            assert answer.outcome is Outcome.REUSED, number
            await client.revoke(session_id)
            with pytest.raises(AuthError) as caught:
                await client.resolve(session_id, token, resource=RESOURCE)
            assert caught.value.reason is Reason.SESSION_REVOKED, number


async def test_a_drain_fails_no_resolve(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token()
    settings = settings_for(tmp_path, idp, "redis", listen="127.0.0.1:0")
    stop = asyncio.Event()
    async with running(settings, clock=clock) as staying:
        leaving = running(settings, clock=clock)
        addresses = [staying, await leaving.__aenter__()]
        async with AuthClient(addresses, deadline_seconds=TIMEOUT_SECONDS) as client:

            async def load(session_id: str) -> None:
                while not stop.is_set():
                    await client.resolve(session_id, token, resource=RESOURCE, create=True)

            under_way = [asyncio.create_task(load(f"s{number}")) for number in range(8)]
            await client.resolve("s0", token, resource=RESOURCE, create=True)
            await asyncio.wait_for(leaving.__aexit__(None, None, None), BOUND_SECONDS)
            stop.set()
            await asyncio.wait_for(asyncio.gather(*under_way), BOUND_SECONDS)


def is_used(replica: Replica) -> bool:
    """Whether a client asks a replica as soon as any other."""
    return replica.try_connect() and replica.healthy


async def test_a_paused_process_is_avoided(tmp_path: Path, idp: IdentityProvider) -> None:
    with ExitStack() as started:
        processes, addresses = [], []
        for name in ("paused", "there"):
            folder = tmp_path / name
            folder.mkdir()
            idp.write_secret(folder)
            for role in ROLES:
                (folder / f"{role}.key").write_text("secret")
            process, address = await asyncio.to_thread(start_authsvc, folder, started)
            processes.append(process)
            addresses.append(address)
        async with (
            # A quarter of it is for a replica that is silent, or on a busy machine slow.
            AuthClient(addresses, deadline_seconds=20) as client,
            asyncio.timeout(BOUND_SECONDS),
        ):
            known = client._replicas._by_endpoint.values()
            while not all(replica.try_connect() for replica in known):
                await client.resolve("", "", resource=LOCAL_RESOURCE)
            processes[0].kill(signal.SIGSTOP)
            try:
                # Detected by a call without an answer or by a ping, whichever comes first.
                while all(is_used(replica) for replica in known):
                    await client.resolve("", "", resource=LOCAL_RESOURCE)
                for _ in range(50):
                    await client.resolve("", "", resource=LOCAL_RESOURCE)
                assert [is_used(replica) for replica in known].count(False) == 1
            finally:
                processes[0].kill(signal.SIGCONT)
            while not all(is_used(replica) for replica in known):
                await client.resolve("", "", resource=LOCAL_RESOURCE)


async def test_a_looked_up_address_has_to_prove_the_name(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    tls = tmp_path / "tls"
    write_development_certificates(tls, client_name="spiffe://dev/adapter")
    settings = settings_for(
        tmp_path,
        idp,
        listen="127.0.0.1:0",
        tls={"certificate_file": tls / "server.pem", "key_file": tls / "server.key"},
    )

    async def look_up(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with running(settings, clock=clock) as address:
        port = address.rpartition(":")[2]

        def client(host: str, deadline_seconds: float) -> AuthClient:
            target, how = f"dns:///{host}:{port}", ClientTls(tls / "ca.pem")
            return AuthClient(target, deadline_seconds=deadline_seconds, tls=how, look_up=look_up)

        async with (
            client("localhost", TIMEOUT_SECONDS) as right,
            client("elsewhere.example", 0.5) as wrong,
        ):
            await right.resolve("", "", resource=RESOURCE)
            with pytest.raises(AuthError, match="not connected"):
                await wrong.resolve("", "", resource=RESOURCE)


async def test_a_client_that_has_made_no_call_is_connected_again_whenever_it_is_not(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    idle = settings_for(tmp_path, idp, "memory", max_connection_idle_seconds=0.2)
    ready = grpc.ChannelConnectivity.READY
    async with (
        running(idle, clock=clock) as address,
        AuthClient(address) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        [replica] = client._replicas._by_endpoint.values()
        channel = replica._channel
        for _ in range(2):  # authsvc closes it, each time
            while (state := channel.get_state()) is not ready:
                await channel.wait_for_state_change(state)
            await channel.wait_for_state_change(ready)


async def test_an_attempt_to_connect_may_take_longer_than_the_time_between_two(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    """A busy or distant server is slow at each attempt."""
    settings = settings_for(tmp_path, idp, listen="127.0.0.1:0")
    async with running(settings, clock=clock) as address:
        host, _, port = address.rpartition(":")

        async def answer_late(reader: StreamReader, writer: StreamWriter) -> None:
            answers, requests = await asyncio.open_connection(host, int(port))
            asking = asyncio.create_task(_copy(reader, requests))
            try:
                # Nothing is answered in this time, unless the client gives up.
                await asyncio.wait((asking,), timeout=3.0)
                if not asking.done():
                    await _copy(answers, writer)
            finally:
                requests.close()
                asking.cancel()
                await asyncio.gather(asking, requests.wait_closed(), return_exceptions=True)

        async with (
            serving_tcp(answer_late) as late,
            AuthClient("{}:{}".format(*late), deadline_seconds=BOUND_SECONDS) as client,
            asyncio.timeout(BOUND_SECONDS),
        ):
            await client.resolve("", "", resource=RESOURCE)


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.usefixtures("files_always_checked")
@pytest.mark.parametrize("streams", [True, False])
async def test_a_call_that_probes_gets_a_connection_by_a_new_certificate(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, streams: bool
) -> None:
    tls = tmp_path / "tls"
    write_development_certificates(tls, client_name=CALLER)
    settings = settings_for(
        tmp_path,
        idp,
        listen="127.0.0.1:0",
        resources=(),
        callers=[{"name": "one", "certificate_names": [CALLER], "resources": [RESOURCE]}],
        tls={
            "certificate_file": tls / "server.pem",
            "key_file": tls / "server.key",
            "client_ca_file": tls / "ca.pem",
        },
    )
    own = ClientTls(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    # Another authority's: authsvc accepts them as little as ones that have expired.
    write_development_certificates(tmp_path, client_name=CALLER)
    async with (
        running(settings, clock=clock) as address,
        AuthClient(
            address, tls=own, deadline_seconds=TIMEOUT_SECONDS, streams=streams, clock=clock
        ) as client,
    ):
        open_breaker(client)
        clock.advance(OPEN_SECONDS)
        probe = asyncio.create_task(client.resolve("", idp.token(), resource=RESOURCE))
        await asyncio.sleep(0)
        for path in (own.ca_file, own.certificate_file, own.key_file):
            assert path is not None
            path.write_bytes((tls / path.name).read_bytes())
        with pytest.raises(AuthError, match="authsvc is unavailable; last failure"):
            await client.resolve("", idp.token(), resource=RESOURCE)
        async with asyncio.timeout(TIMEOUT_SECONDS / 2):
            assert (await probe).principal is not None


def open_breaker(client: AuthClient) -> None:
    for _ in range(FAILURES):
        with suppress(AuthError), client._breaker.call():
            raise AuthError(Reason.SERVICE_UNAVAILABLE)
