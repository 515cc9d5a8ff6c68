"""Operators list the streams of signals: through gRPC, of every replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from authsvc.domain.signal_status import StreamState, StreamStatus
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from tests.authsvc.server.test_signals import SET, stream_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.operators import WAIT_SECONDS, Site, clients, settings, write_tls
from tests.support.signals import Sender
from tests.support.tokens import ISSUER, IdentityProvider
from tests.support.transmitter import transmitting
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

STREAM_UPDATED = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"


def receiving(given: Settings, stream: dict[str, object]) -> tuple[Settings, str]:
    """Settings with a stream, and the URL of its pushes."""
    port = free_port()
    signals = {"listen": f"127.0.0.1:{port}", "streams": [stream]}
    # As read from a file: model_copy would not check them.
    changed = Settings.model_validate({**given.model_dump(exclude_unset=True), "signals": signals})
    return changed, f"http://127.0.0.1:{port}/signals/events"


def push(url: str, text: str) -> int:
    answer = httpx2.post(url, content=text, headers=SET, timeout=TIMEOUT_SECONDS, trust_env=False)
    return answer.status_code


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    return write_tls(tmp_path / "tls")


@pytest.fixture
async def pushed(
    tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider, sender: Sender
) -> AsyncIterator[tuple[Site, str]]:
    """A service that receives signals, and the URL of pushes."""
    given, url = receiving(settings(tmp_path, tls, idp, "memory"), stream_of(tmp_path, sender))
    async with running(given, clock=clock) as address, clients(address, tls) as site:
        yield site, url


async def test_streams_are_listed(pushed: tuple[Site, str], sender: Sender, clock: Clock) -> None:
    site, url = pushed
    assert await site.operator.signal_streams() == (StreamStatus(ISSUER),)
    clock.advance(5)
    assert await asyncio.to_thread(push, url, sender.security_event_token()) == 202
    (stream,) = await site.operator.signal_streams()
    assert stream.last_event is not None
    assert (stream.last_event.time, stream.last_event.result) == (clock(), "revoked")
    about = {"format": "opaque", "id": "stream-1"}
    hostile = "\x1b[2J\u202egone"
    event = {"status": "disabled", "reason": hostile}
    text = sender.security_event_token(event_type=STREAM_UPDATED, event=event, sub_id=about)
    assert await asyncio.to_thread(push, url, text) == 202
    (stream,) = await site.operator.signal_streams()
    assert stream.state is StreamState.DISABLED
    assert stream.change is not None
    assert stream.change.reason == r"\x1b[2J\u202egone"


@pytest.mark.parametrize("caller", ["server", "stranger"])
async def test_only_operators_list_streams(pushed: tuple[Site, str], caller: str) -> None:
    site, _ = pushed
    async with site.stub(caller) as raw:
        with pytest.raises(Exception, match="PERMISSION_DENIED"):
            await raw.admin.ListSignalStreams(
                pb.ListSignalStreamsRequest(), metadata=raw.metadata, timeout=WAIT_SECONDS
            )


async def test_a_listing_is_audited(
    pushed: tuple[Site, str], caplog: pytest.LogCaptureFixture
) -> None:
    site, _ = pushed
    await site.operator.signal_streams()
    events = [it.__dict__ for it in caplog.records if it.name == "authsvc.security"]
    (event,) = [it for it in events if it["event_type"] == "ADMIN_ACTION"]
    assert event["caller"] == "operator"
    assert event["detail"].startswith("ListSignalStreams; from ")


async def test_a_service_without_signals_has_no_streams(
    tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider
) -> None:
    given = settings(tmp_path, tls, idp, "memory")
    async with running(given, clock=clock) as address, clients(address, tls) as site:
        assert await site.operator.signal_streams() == ()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_what_one_replica_receives_the_others_show(
    tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider, sender: Sender, kind: str
) -> None:
    base = settings(tmp_path, tls, idp, kind)
    async with AsyncExitStack() as stack, asyncio.timeout(TIMEOUT_SECONDS):
        sites, urls = [], []
        for _ in range(2):
            given, url = receiving(base, stream_of(tmp_path, sender))
            address = await stack.enter_async_context(running(given, clock=clock))
            sites.append(await stack.enter_async_context(clients(address, tls)))
            urls.append(url)
        assert await asyncio.to_thread(push, urls[0], sender.security_event_token()) == 202
        # Once it is written, which the receiving replica does every second.
        while (await sites[1].operator.signal_streams())[0].last_event is None:
            pass
        assert await sites[0].operator.signal_streams() == await sites[1].operator.signal_streams()


async def test_what_a_replica_has_received_outlives_it(
    tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider, sender: Sender
) -> None:
    given, url = receiving(settings(tmp_path, tls, idp), stream_of(tmp_path, sender))
    async with running(given, clock=clock):
        assert await asyncio.to_thread(push, url, sender.security_event_token()) == 202
    async with running(given, clock=clock) as address, clients(address, tls) as site:
        (stream,) = await site.operator.signal_streams()
    assert stream.last_event is not None


async def test_polls_are_shown(
    tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider, sender: Sender
) -> None:
    (tmp_path / "authorization").write_text("Bearer poll-secret")
    async with transmitting() as transmitter, asyncio.timeout(TIMEOUT_SECONDS):
        stream = stream_of(
            tmp_path,
            sender,
            poll_url=transmitter.url,
            poll_authorization_file=tmp_path / "authorization",
        )
        given, _ = receiving(settings(tmp_path, tls, idp, "memory"), stream)
        async with running(given, clock=clock) as address, clients(address, tls) as site:
            await transmitter.send(one=sender.security_event_token())
            await transmitter.until_empty()
            (found,) = await site.operator.signal_streams()
    assert found.is_polled
    assert found.last_poll_time == clock()
    assert found.last_event is not None
