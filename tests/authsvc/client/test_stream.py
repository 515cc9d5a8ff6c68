"""The stream that requests share: batches, deadlines, cancellation, ends, and doing without."""

from __future__ import annotations

import asyncio
import traceback
from contextvars import ContextVar

import pytest

import authsvc.client
from authsvc.client import AuthClient
from authsvc.client.stream import MAX_ENTRIES
from authsvc.domain.errors import AuthError, Reason
from tests.authsvc.client.fleet import (
    BOUND_SECONDS,
    RESOURCE,
    FakeReplica,
    client_of,
    fleet,
    hasten,
    resolved,
    streaming,
)
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


async def all_arrived(replica: FakeReplica, count: int) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while len(replica.asked) < count:  # noqa: ASYNC110 - the replica is in this process
            await asyncio.sleep(0)


async def test_concurrent_requests_share_a_batch_and_get_their_own_answers() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        await resolved(client)
        names = [f"s{number}" for number in range(50)]
        calls = [client.resolve(name, "", resource=RESOURCE) for name in names]
        answers = await asyncio.gather(*calls)
    assert [answer.session.id for answer in answers if answer.session] == names
    assert replica.batches == [1, 50]
    assert len(replica.opened) == 1


async def test_a_batch_is_no_larger_than_a_server_takes() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        await resolved(client)
        await asyncio.gather(*(resolved(client) for _ in range(MAX_ENTRIES + 1)))
        large = "t" * 60_000
        calls = [client.resolve("s", large, resource=RESOURCE) for _ in range(20)]
        await asyncio.gather(*calls)
    assert replica.batches[1:3] == [MAX_ENTRIES, 1]
    assert max(replica.batches[3:]) * len(large) < 1 << 20


async def test_answers_come_in_any_order() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        replica.go_on.clear()
        held = asyncio.create_task(client.resolve("held", "", resource=RESOURCE))
        async with asyncio.timeout(BOUND_SECONDS):
            await replica.arrived.wait()
            first = replica.go_on
            replica.go_on = asyncio.Event()
            replica.go_on.set()
            later = await client.resolve("later", "", resource=RESOURCE)
            assert not held.done()
            first.set()
            answer = await held
    assert later.session is not None
    assert answer.session is not None
    assert (later.session.id, answer.session.id) == ("later", "held")


async def test_a_deadline_cancels_one_request_at_the_server() -> None:
    async with (
        fleet(1) as [replica],
        client_of(replica) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        await streaming(client)
        await resolved(client)
        replica.go_on.clear()
        hasten(client, 0.3)
        with pytest.raises(AuthError) as caught:
            await resolved(client)
        assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
        await replica.gone.wait()
        hasten(client, TIMEOUT_SECONDS)
        replica.go_on.set()
        await resolved(client)
    assert len(replica.opened) == 1


async def test_a_request_that_is_cancelled_before_it_was_sent_is_not_sent() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        given_up = asyncio.create_task(client.resolve("given-up", "", resource=RESOURCE))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await resolved(client)
    assert "given-up" not in [getattr(one.request, "session_id", "") for one in replica.asked]


async def test_each_entry_has_an_error_of_its_own() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        replica.error = AuthError(Reason.TOKEN_EXPIRED)
        with pytest.raises(AuthError) as caught:
            await resolved(client)
        assert caught.value.reason is Reason.TOKEN_EXPIRED
        replica.error = RuntimeError("a secret")
        with pytest.raises(AuthError) as caught:
            await resolved(client)
        assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
        assert "secret" not in f"{caught.value}{caught.value.detail}"
        replica.error = None
        await resolved(client)
    assert len(replica.opened) == 1


async def test_a_connection_that_breaks_takes_its_requests_elsewhere() -> None:
    async with (
        fleet(2) as replicas,
        client_of(*replicas) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        await streaming(client, 2)
        for replica in replicas:
            replica.go_on.clear()
        calls = [asyncio.create_task(resolved(client)) for _ in range(20)]
        await all_arrived(replicas[0], 1)
        replicas[1].go_on.set()
        await replicas[0].stop()
        await asyncio.gather(*calls)


async def test_requests_of_a_stream_that_ends_are_retried() -> None:
    async with (
        fleet(1) as [replica],
        client_of(replica) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        await streaming(client)
        replica.ends_streams = True
        replica.go_on.clear()
        call = asyncio.create_task(resolved(client))
        await replica.arrived.wait()
        replica.ends_streams = False
        replica.go_on.set()
        await call
        await streaming(client)
        await resolved(client)
    assert len(replica.opened) == 2


async def test_no_request_has_the_frames_of_another_in_its_traceback() -> None:
    """All of them fail with the error of their stream. Error reporters show the frames' variables,
    and a token is one of them."""
    async with fleet(1) as [replica], client_of(replica) as client:
        replica.go_on.clear()
        replica.ends_streams, replica.end = True, AuthError(Reason.CALLER_NOT_ALLOWED)
        await streaming(client)
        errors = await asyncio.gather(
            *(client.resolve("s", f"token {count}", resource=RESOURCE) for count in range(5)),
            return_exceptions=True,
        )
    for count, error in enumerate(errors):
        assert isinstance(error, AuthError)
        assert error.reason is Reason.CALLER_NOT_ALLOWED
        frames = traceback.walk_tb(error.__traceback__)
        tokens = {frame.f_locals["token"] for frame, _ in frames if "token" in frame.f_locals}
        assert tokens == {f"token {count}"}


async def test_a_replica_without_streams_is_called() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        replica.streams = False
        await streaming(client)
        await resolved(client)
        await asyncio.gather(*(resolved(client) for _ in range(5)))
        assert len(replica.asked) == 6
        # It is not asked for a stream again.
        replica.streams = True
        await resolved(client)
    assert replica.opened == []


async def test_streams_can_be_turned_off() -> None:
    async with fleet(1) as [replica], client_of(replica, streams=False) as client:
        await resolved(client)
    assert replica.opened == []


async def test_a_service_token_that_changes_is_shown_on_a_new_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = "first"
    async with fleet(1) as [replica]:
        client = client_of(replica)
        monkeypatch.setattr(
            client._service_token, "metadata", lambda: (("authorization", f"Bearer {token}"),)
        )
        async with client:
            await streaming(client)
            replica.go_on.clear()
            under_way = asyncio.create_task(resolved(client))
            await all_arrived(replica, 1)
            token = "second"
            # A call, while there is no connection for a stream that shows it.
            called = asyncio.create_task(resolved(client))
            await all_arrived(replica, 2)
            await streaming(client)
            new = asyncio.create_task(resolved(client))
            await all_arrived(replica, 3)
            replica.go_on.set()
            await asyncio.gather(under_way, called, new)
    shown = [metadata["authorization"] for metadata in replica.opened]
    assert shown == ["Bearer first", "Bearer second"]


async def test_each_request_carries_the_trace_of_its_caller() -> None:
    current = ContextVar("current", default="")

    async def traced(client: AuthClient, name: str) -> None:
        current.set(name)
        await resolved(client)

    async with fleet(1) as [replica]:
        for streams in (True, False):
            async with client_of(replica, streams=streams, traceparent=current.get) as client:
                if streams:
                    await streaming(client)
                await resolved(client)
                await asyncio.gather(*(traced(client, name) for name in "abc"))
    assert [asked.traceparent for asked in replica.asked] == ["", *"abc"] * 2


async def test_a_client_that_closes_leaves_no_task_behind() -> None:
    async with fleet(1) as [replica]:
        before = asyncio.all_tasks()
        async with client_of(replica) as client:
            await streaming(client)
            await resolved(client)
            replica.go_on.clear()
            call = asyncio.create_task(resolved(client))
            await all_arrived(replica, 2)
        with pytest.raises(AuthError):
            await call
        assert not any(is_of_the_client(task) for task in asyncio.all_tasks() - before)


def is_of_the_client(task: asyncio.Task[object]) -> bool:
    """Whether the client's code runs in it: the replica's tasks may still be ending."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(authsvc.client.__path__[0])
