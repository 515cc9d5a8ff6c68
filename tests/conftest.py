"""Fixtures that every test may use."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import Clock
from tests.support.tokens import IdentityProvider

# How fast a machine is has no say in whether a test passes; in CI the examples are the same ones
# each time.
settings.register_profile(
    "authsvc",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI_STRICT")),
)
settings.load_profile("authsvc")


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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI_STRICT is set, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI_STRICT") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
