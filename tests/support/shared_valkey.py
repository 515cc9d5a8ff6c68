"""One Valkey, and one cluster, for all tests of a run; each test has a prefix of its own in it."""

from __future__ import annotations

import asyncio
import atexit
import gc
import secrets
import shutil
import tempfile
import warnings
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.support.valkey import Cluster, Valkey, cluster


@cache
def shared_valkey() -> Valkey:
    """The server, started when it is first asked for and ended with the run."""
    folder = Path(tempfile.mkdtemp(prefix="authsvc-valkey-"))
    # Not durable, unlike the others: what is tested here does not die.
    server = Valkey(folder, "--appendonly", "no")
    server.start()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.end)
    return server


def fresh_prefix() -> str:
    """A prefix that nobody has used."""
    return secrets.token_hex(8)


@cache
def shared_cluster() -> Cluster:
    """A cluster of three primaries, likewise."""
    folder = Path(tempfile.mkdtemp(prefix="authsvc-cluster-"))
    running = ExitStack()
    running.callback(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(running.close)
    # No node of it dies, and on a busy machine none is to be taken for dead.
    return running.enter_context(cluster(folder, "--appendonly", "no", node_timeout_ms=15_000))


async def let_go() -> None:
    """After a store over several nodes has been closed: redis-py leaves connections that it was
    about to make to the garbage collector, which would complain in some later test."""
    for _ in range(3):
        await asyncio.sleep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
