"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import gc
import os
import ssl
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from traceback import extract_tb
from typing import Any

import httpcore2
import pytest
from anyio._backends._asyncio import TestRunner
from hypothesis import HealthCheck, settings
from redis._parsers.commands import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode

from tests.support.clock import Clock
from tests.support.tokens import IdentityProvider

# Tests have channels and clients of their own, which would give tokens to a proxy.
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]

# How fast a machine is has no say in whether a test passes; in CI the examples are the same ones
# each time, and half as many.
_IN_CI = bool(os.environ.get("CI_STRICT"))
settings.register_profile(
    "authsvc",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=_IN_CI,
    max_examples=50 if _IN_CI else 100,
)
settings.load_profile("authsvc")


_TESTS = Path(__file__).parent
_COVERED = ("authsvc", "credential_chain", "field", "mcp_adapter")
"""Folders of tests that count for coverage: of the two packages, and what reaches their rest. To
trace the other tests takes as much processor time again as to run them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage is measured while the tests of the two packages run. The others come first: a file
    of theirs takes longer, and the last file that begins is to be a short one."""
    for item in items:
        if not _is_covered(item):
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=_is_covered)


def pytest_collection_finish() -> None:
    """The collected tests stay until the end: no garbage collection looks at them again."""
    gc.collect()
    gc.freeze()


def _is_covered(item: pytest.Item) -> bool:
    return item.path.relative_to(_TESTS).parts[0] in _COVERED


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that async tests run on."""
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    """An identity provider on that clock."""
    return IdentityProvider(clock)


@pytest.fixture
def files_always_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched files are checked at each use: no test waits for the interval between two checks."""
    monkeypatch.setattr("authsvc.net.watched_file.WATCH_INTERVAL_SECONDS", 0.0)


@pytest.fixture(autouse=True, scope="session")
def _the_systems_authorities_are_loaded_once() -> Iterator[None]:
    """httpx loads them for each client: 25 ms, also where it speaks plain HTTP."""
    load = httpcore2.default_ssl_context

    @functools.cache
    def loaded(_file: str | None, _folder: str | None, trust_env: bool) -> ssl.SSLContext:
        return load(_trust_env=trust_env)

    def cached(*, _trust_env: bool = True) -> ssl.SSLContext:
        environ = os.environ
        return loaded(environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR"), _trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cached)
        yield


@pytest.fixture(autouse=True, scope="session")
def _the_commands_of_valkey_are_read_once() -> Iterator[None]:
    """Each client of a cluster reads them when it connects: 20 ms."""
    read = AsyncCommandsParser.initialize
    known: dict[str, Any] = {}

    async def initialize(self: AsyncCommandsParser, node: ClusterNode | None = None) -> None:
        if known:
            self.node, self.commands = node or self.node, known
        else:
            await read(self, node)
            known.update(self.commands)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncCommandsParser, "initialize", initialize)
        yield


def _is_for_a_loop_that_has_ended(error: object) -> bool:
    """grpc.aio has one poller for a process. What it still gets for the loop of a test that has
    ended, it raises in the loop of the next one."""
    return (
        isinstance(error, RuntimeError)
        and str(error) == "Event loop is closed"
        and any("_handle_events" in frame.name for frame in extract_tb(error.__traceback__))
    )


@pytest.fixture(autouse=True, scope="session")
def _loops_hear_their_own_errors() -> Iterator[None]:
    handle = TestRunner._exception_handler

    def handle_own(self: TestRunner, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        if not _is_for_a_loop_that_has_ended(context.get("exception")):
            handle(self, loop, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestRunner, "_exception_handler", handle_own)
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI_STRICT is set, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if _IN_CI and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
