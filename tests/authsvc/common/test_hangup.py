"""SIGHUP has files read again, and never ends a server. That each program obeys is tested with
its processes, in ``tests/test_without_uvloop.py`` and ``tests/test_core_dumps.py``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from authsvc.common.hangup import ignore_hangups, read_files_again, reloading
from authsvc.net.watched_file import WatchedFile
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
async def server() -> AsyncIterator[None]:
    """Hears SIGTERM, as each of them does."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    yield
    loop.remove_signal_handler(signal.SIGTERM)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.usefixtures("server")
async def test_a_hangup_reloads_once_a_server_serves_and_does_nothing_else() -> None:
    reloaded: asyncio.Queue[None] = asyncio.Queue()
    ignore_hangups()
    hang_up()  # during the start
    assert reloaded.empty()
    with reloading(lambda: reloaded.put_nowait(None)):
        await asyncio.wait_for(reloaded.get(), TIMEOUT_SECONDS)
        for _ in range(2):
            hang_up()
            await asyncio.wait_for(reloaded.get(), TIMEOUT_SECONDS)
    hang_up()  # during the stop
    await asyncio.sleep(0)
    assert reloaded.empty()
    # Neither the end of the loop nor that of Python gives it its default effect.
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


async def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ignore_hangups()
    with reloading(lambda: pytest.fail("it reloads")):
        hang_up()
        await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_every_file_is_read_again_at_its_next_use(tmp_path: Path) -> None:
    """Also within the interval between two checks, and where nothing has changed."""
    files = [WatchedFile(tmp_path / name) for name in ("one", "other")]
    assert [it.changed(0.0) for it in files] == [False, False]
    read_files_again()
    for file in files:
        assert file.changed(0.1)
        assert file.changed(0.7)  # it could not be read
        file.mark_read()
        assert not file.changed(1.3)
        assert not file.changed_now()
