"""The operators' client: several replicas, unreachable ones, and files that change."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import grpc
import pytest
from grpc import aio

from authsvc.client import AdminClient, ClientTls
from authsvc.client.admin_channels import AdminChannel
from authsvc.client.admin_watch import RESUMPTION, Watch
from authsvc.client.calls import Method
from authsvc.client.failures import AttemptError, failure_of
from authsvc.client.retries import RetryPolicy
from authsvc.domain.errors import AuthError, Reason
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from tests.support.clock import Clock
from tests.support.operators import SERVICE_TOKENS, WAIT_SECONDS, clients, reason, settings, taken
from tests.support.operators import write_tls as written_tls
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    written_tls(folder)
    return folder


@pytest.fixture
def values(tmp_path: Path, tls: Path, idp: IdentityProvider) -> Settings:
    return settings(tmp_path, tls, idp, "sqlite")


@pytest.fixture
def silent() -> Iterator[str]:
    """A replica that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def away() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken_for_a_moment:
        taken_for_a_moment.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken_for_a_moment.getsockname()[1]}"


async def test_it_is_open_once_at_a_time(away: str) -> None:
    client = AdminClient(away)
    for _ in range(2):
        async with client:
            with pytest.raises(RuntimeError, match="open already"):
                await client.__aenter__()


@pytest.mark.parametrize("call", ["status", "watch"])
async def test_a_call_under_way_fails_once_the_client_is_closed(silent: str, call: str) -> None:
    async def watch(client: AdminClient) -> None:
        async with client.watching():
            pass

    async with AdminClient(silent, deadline_seconds=WAIT_SECONDS) as client:
        under_way = asyncio.create_task(client.status() if call == "status" else watch(client))
        await asyncio.sleep(0)
    # Its caller did not cancel it.
    with pytest.raises(AuthError, match="closed by this client"):
        await asyncio.wait_for(under_way, WAIT_SECONDS)


@asynccontextmanager
async def operator(
    address: str, tls: Path, *, deadline_seconds: float = WAIT_SECONDS, token: str = "operator"
) -> AsyncIterator[AdminClient]:
    how = ClientTls(tls / "ca.pem", service_token_file=tls / token)
    async with AdminClient(address, deadline_seconds=deadline_seconds, tls=how) as client:
        yield client


async def test_an_unreachable_replica_is_skipped(
    values: Settings, tls: Path, clock: Clock, away: str
) -> None:
    async with (
        asyncio.timeout(WAIT_SECONDS),
        running(values, clock=clock) as address,
        operator(f"{away}, {address}", tls) as client,
    ):
        for _ in range(3):
            assert (await client.revoke_subject(ISSUER, "alice")).session_count == 0
        async with client.watching() as events:
            await client.revoke_everyone()
            await taken(events, 1)


async def test_an_idle_connection_that_the_server_has_ended_is_made_anew(
    values: Settings, tls: Path, clock: Clock
) -> None:
    idle = values.model_copy(update={"max_connection_idle_seconds": 0.2})
    credentials = grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes())
    async with (
        asyncio.timeout(WAIT_SECONDS),
        running(idle, clock=clock) as address,
        operator(address, tls) as client,
    ):
        for _ in range(3):
            await client.status()
            # A connection that has been idle for less time has ended: so has the client's.
            async with aio.secure_channel(address, credentials) as later:
                await later.channel_ready()
                await later.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_a_watch_fails_once_the_client_is_closed(
    values: Settings, tls: Path, clock: Clock
) -> None:
    begun = asyncio.Event()

    async def watch(client: AdminClient) -> None:
        async with client.watching() as events:
            begun.set()
            async for _ in events:
                pass

    async with asyncio.timeout(WAIT_SECONDS), running(values, clock=clock) as address:
        async with operator(address, tls) as client:
            under_way = asyncio.create_task(watch(client))
            await begun.wait()
        with pytest.raises(AuthError, match="closed by this client"):
            await under_way


class Cable:
    """Between a client and an address, until it is cut without a word."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._whole = asyncio.Event()
        self._whole.set()
        self._relays: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def plugged(self) -> AsyncIterator[str]:
        """The address of its near end."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for relay in self._relays:
                relay.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    def cut(self) -> None:
        """From here on nothing gets through."""
        self._whole.clear()

    async def _connected(self, near: asyncio.StreamReader, near_end: asyncio.StreamWriter) -> None:
        far, far_end = await asyncio.open_connection(self._host, self._port)
        for source, sink in ((near, far_end), (far, near_end)):
            self._relays.add(asyncio.create_task(self._relay(source, sink)))

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._whole.wait()
                sink.write(data)
        finally:
            sink.close()


async def test_a_silent_replica_leaves_time_for_the_others(
    values: Settings, tls: Path, clock: Clock
) -> None:
    async with asyncio.timeout(WAIT_SECONDS), running(values, clock=clock) as address:
        cable = Cable(address)
        async with (
            cable.plugged() as near,
            # Each of the two gets a half, and a busy machine has to answer within it.
            operator(f"{near},{address}", tls, deadline_seconds=20) as client,
        ):
            assert await reason(client.get("s")) is Reason.SESSION_NOT_FOUND
            cable.cut()
            assert await reason(client.get("s")) is Reason.SESSION_NOT_FOUND


@pytest.mark.parametrize("deadline_seconds", [0.2, 0.5])
async def test_a_call_fails_at_its_deadline(
    tls: Path, away: str, silent: str, deadline_seconds: float
) -> None:
    for address in (away, silent, f"{away},{silent}"):
        async with (
            asyncio.timeout(WAIT_SECONDS),
            operator(address, tls, deadline_seconds=deadline_seconds) as client,
        ):
            assert await reason(client.get("s")) is Reason.SERVICE_UNAVAILABLE
            with pytest.raises(AuthError, match="SERVICE_UNAVAILABLE"):
                async with client.watching():
                    pass


async def test_a_watch_goes_on_at_another_replica(
    values: Settings, tls: Path, clock: Clock
) -> None:
    async with asyncio.timeout(WAIT_SECONDS), AsyncExitStack() as stack:
        replicas = [AsyncExitStack() for _ in range(2)]
        for replica in replicas:
            await stack.enter_async_context(replica)
        first, second = [
            await replica.enter_async_context(running(values, clock=clock)) for replica in replicas
        ]
        site = await stack.enter_async_context(clients(second, tls))
        client = await stack.enter_async_context(operator(f"{first},{second}", tls))
        events = await stack.enter_async_context(client.watching())
        await site.resolve("s1")
        seen = await taken(events, 1)
        going = asyncio.create_task(replicas[0].aclose())
        for number in range(2, 30):
            await site.resolve(f"s{number}")
        await going
        await site.resolve("s30")
        seen += await taken(events, 29)
        ids = [it.event.record.id for it in seen if it.event.record]
        assert ids == [f"s{number}" for number in range(1, 31)]


class EndsAtOnce:
    """A stream of a server without its store: it begins, and ends; one has an event before."""

    def __init__(self, *, has_event: bool) -> None:
        self._has_event = has_event

    async def __aiter__(self) -> AsyncIterator[pb.WatchSessionsResponse]:
        if self._has_event:
            yield pb.WatchSessionsResponse(resume_token="1")
        raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())

    def cancel(self) -> None:
        """As a call."""


class Opens:
    """Opens streams; the last one is denied."""

    def __init__(self, with_events: list[bool]) -> None:
        self._left = with_events
        self.policies: list[RetryPolicy | None] = []

    async def make(self, *_: object, policy: RetryPolicy | None = None, **__: object) -> EndsAtOnce:
        self.policies.append(policy)
        if not self._left:
            raise AuthError(Reason.CALLER_NOT_ALLOWED)
        return EndsAtOnce(has_event=self._left.pop(0))


async def test_a_watch_is_resumed_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("authsvc.client.admin_watch.asyncio.sleep", sleep)
    monkeypatch.setattr("authsvc.client.retries.random.uniform", lambda _, longest: longest)
    opens = Opens([False] * 12 + [True, False])
    watch = Watch(cast("Any", opens), pb.WatchSessionsRequest())
    await watch.begin()
    with pytest.raises(AuthError):
        async for _ in watch.events():
            pass
    growing = [0.05 * 2**number for number in range(10)]
    assert waits == [*growing, 30.0, 30.0, 0.05, 0.1]
    assert opens.policies == [None, *[RESUMPTION] * 14]


async def test_a_denied_call_is_not_retried(
    values: Settings, tls: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(WAIT_SECONDS),
        running(values, clock=clock) as address,
        operator(
            f"{address},{address}", tls, token="server", deadline_seconds=WAIT_SECONDS
        ) as client,
    ):
        assert await reason(client.get("s")) is Reason.CALLER_NOT_ALLOWED

        async def watch() -> None:
            async with client.watching() as events:
                await taken(events, 1)

        assert await reason(watch()) is Reason.CALLER_NOT_ALLOWED
    refused = [it for it in caplog.records if it.__dict__.get("event_type") == "CALLER_DENIED"]
    assert len(refused) == 2


async def test_without_its_service_token_it_does_not_call(tls: Path, away: str) -> None:
    async with operator(away, tls, token="missing") as client:
        assert await reason(client.get("s")) is Reason.CALLER_NOT_ALLOWED


@pytest.mark.usefixtures("files_always_checked")
async def test_files_may_change_while_it_runs(
    tmp_path: Path, values: Settings, tls: Path, clock: Clock
) -> None:
    mine = tmp_path / "mine"
    written_tls(mine)  # of another authority
    (mine / "operator").write_text(token_hex(20))
    async with (
        asyncio.timeout(WAIT_SECONDS),
        running(values, clock=clock) as address,
        operator(address, mine, deadline_seconds=1) as client,
    ):
        assert await reason(client.get("s")) is Reason.SERVICE_UNAVAILABLE
        client._calls._deadline_seconds = WAIT_SECONDS
        shutil.copyfile(tls / "ca.pem", mine / "ca.pem")
        assert await reason(client.get("s")) is Reason.CALLER_NOT_ALLOWED
        (mine / "operator").write_text(SERVICE_TOKENS["operator"])
        assert await reason(client.get("s")) is Reason.SESSION_NOT_FOUND


async def test_it_is_used_within_its_context(tls: Path) -> None:
    client = AdminClient("127.0.0.1:1", tls=ClientTls(tls / "ca.pem"))
    with pytest.raises(RuntimeError, match="async with"):
        await client.get("s")
    async with client:
        pass
    with pytest.raises(RuntimeError, match="async with"):
        await client.get("s")


async def test_it_works_again_once_it_is_opened_again(values: Settings, tls: Path) -> None:
    async with running(values) as address:
        how = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
        client = AdminClient(address, deadline_seconds=WAIT_SECONDS, tls=how)
        for _ in range(2):
            async with client:
                assert await reason(client.get("s")) is Reason.SESSION_NOT_FOUND


async def test_an_error_names_the_target_and_the_cause(tls: Path, away: str) -> None:
    async with operator(away, tls, deadline_seconds=0.1) as client:
        with pytest.raises(AuthError) as caught:
            await client.get("s")
    assert caught.value.detail.startswith(f"authsvc at {away}: ")


@pytest.mark.parametrize("target", ["", "nowhere", "http://a.example:1", "127.0.0.1:1,"])
def test_an_invalid_target(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        AdminClient(target)


async def test_a_timeout_does_not_hide_the_cause_of_the_failure_before_it(
    away: str,
) -> None:
    cause = "failed to connect to all addresses; last error: CERTIFICATE_VERIFY_FAILED"
    causes = [cause]

    async def attempt(channel: AdminChannel, request: None, seconds: float) -> None:
        if causes:
            raise AttemptError(failure_of(failed(grpc.StatusCode.UNAVAILABLE, causes.pop())))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        raise AttemptError(failure_of(failed(grpc.StatusCode.DEADLINE_EXCEEDED, "")))

    method = Method(attempt, idempotent=True)
    async with AdminClient(away) as operator:
        with pytest.raises(AuthError) as caught:
            await operator._calls.make(method, None, total_seconds=1.0)
    assert not causes
    explained = f"ca_file does not have the authority of authsvc's certificate: {cause}"
    assert caught.value.detail == f"authsvc at {away}: UNAVAILABLE: {explained}"


def failed(code: grpc.StatusCode, details: str) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details)
