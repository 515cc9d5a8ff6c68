"""Watches: their events, their bounds, and their ends."""

from __future__ import annotations

import asyncio

import pytest

from authsvc.admin.sessions import SessionAdmin
from authsvc.admin.watches import MAX_WATCHERS
from authsvc.domain.errors import AuthError, Reason
from authsvc.stores import LoggedEvent
from tests.authsvc.admin.office import ALL, WAIT_SECONDS, Office, fill, record

pytestmark = pytest.mark.anyio


async def happen(office: Office, count: int) -> None:
    for number in range(count):
        await fill(office, record(f"s{number}", subject=f"u{number}"))


async def test_a_watch_has_all_events_since_it_began(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        # No event has been read yet.
        await happen(office, 3)
        assert [_id(await anext(events)) for _ in range(3)] == ["s0", "s1", "s2"]


async def test_a_slow_reader_does_not_fill_the_memory(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        await happen(office, 100)
        await anext(events)
        for _ in range(100):
            await asyncio.sleep(0)
        assert office.store.events_read <= 2


async def test_a_watch_closes_the_log(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        for ending in ("left", "failed", "cancelled", "never read"):
            async with office.admin.watches.watching(ALL):
                await asyncio.sleep(0)
                assert office.store.logs_open == 1
            assert office.store.logs_open == 0, ending
            task = asyncio.create_task(_watch(office.admin, ending))
            await asyncio.sleep(0)
            await happen_once(office, ending)
            if ending == "cancelled":
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert office.store.logs_open == 0, ending


async def _watch(admin: SessionAdmin, ending: str) -> None:
    async with admin.watches.watching(ALL) as watch:
        if ending == "never read":
            return
        async for _ in watch.events:
            if ending == "left":
                return
            if ending == "failed":
                raise RuntimeError("as asked for")


async def happen_once(office: Office, name: str) -> None:
    await asyncio.sleep(0)
    await fill(office, record(name))
    await asyncio.sleep(0)


async def test_watchers_are_bounded(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        watches = [office.admin.watches.watching(ALL) for _ in range(MAX_WATCHERS)]
        for watch in watches:
            await watch.__aenter__()
        with pytest.raises(AuthError) as caught:
            async with office.admin.watches.watching(ALL):
                pass
        assert caught.value.reason is Reason.OVERLOADED
        for watch in watches:
            await watch.__aexit__(None, None, None)
        async with office.admin.watches.watching(ALL):
            pass
    assert office.store.logs_open == 0


async def test_a_stop_ends_watches_at_once(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        office.stopping.set()
        with pytest.raises(AuthError) as caught:
            await waiting
    assert caught.value.reason is Reason.SERVICE_UNAVAILABLE


async def test_an_unavailable_store_ends_watches(office: Office) -> None:
    async with asyncio.timeout(WAIT_SECONDS), office.admin.watches.watching(ALL) as watch:
        events = watch.events
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await office.store.close()
        with pytest.raises(AuthError) as caught:
            await waiting
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def _id(logged: LoggedEvent) -> str:
    assert logged.event.record is not None
    return logged.event.record.id
