"""A console, and what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authsvc.console.passphrases import operator_line
from authsvc.console.server import running as console_running
from authsvc.server.running import running
from tests.support.clock import Clock
from tests.support.console import NAME, PASSPHRASE, Office, console_settings
from tests.support.operators import Site, clients, settings, write_tls
from tests.support.tokens import IdentityProvider


@pytest.fixture(scope="session")
def operators_line() -> str:
    """The line of an operator, at the lowest cost, so that signing in is fast."""
    return operator_line(NAME, PASSPHRASE, cost=10)


@pytest.fixture
def operators_file(tmp_path: Path, operators_line: str) -> Path:
    """A file with one operator."""
    path = tmp_path / "operators"
    path.write_text(f"# who may sign in\n\n{operators_line}\n")
    return path


@pytest.fixture
async def site(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Site]:
    """A running authsvc that accepts the console as an admin caller."""
    tls = write_tls(tmp_path / "tls")
    async with (
        running(settings(tmp_path, tls, idp), clock=clock) as address,
        clients(address, tls) as connected,
    ):
        yield connected


@pytest.fixture
async def office(site: Site, operators_file: Path, clock: Clock) -> AsyncIterator[Office]:
    """A console over it."""
    how = console_settings(site, operators_file)
    async with console_running(how, clock=clock) as url:
        yield Office(url, site, operators_file, clock)
