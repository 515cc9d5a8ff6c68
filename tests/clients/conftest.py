"""One stack for all of the clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.harness import Stack, running_stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """It holds no state that one client could leave to another: each opens sessions of its own."""
    with running_stack(tmp_path_factory.mktemp("clients")) as running:
        yield running
