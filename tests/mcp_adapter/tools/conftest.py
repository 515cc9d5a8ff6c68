"""A real S3 API, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from demo.s3 import serving_s3
from mcp_adapter.tools.s3 import S3Clients
from tests.mcp_adapter.harness import running
from tests.mcp_adapter.tools.slow_storage import SlowStorage
from tests.support.recording import Recording, recording

KEYS = [
    "a b.txt",
    "a%20b.txt",
    "a+b.txt",
    "data/one.txt",
    "data/two.txt",
    "ünïcödé/✓.txt",
    *(f"many/{number:04}" for number in range(250)),
]


@pytest.fixture(scope="session")
def keys() -> list[str]:
    """The keys in ``alpha``, in S3's order."""
    return sorted(KEYS, key=str.encode)


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """An S3 API with the buckets ``alpha``, and ``empty-one``."""
    with serving_s3({"alpha": dict.fromkeys(KEYS, b"x"), "empty-one": {}}) as url:
        yield url


@pytest.fixture
def seen(upstream: str) -> Iterator[Recording]:
    """What goes to the S3 API through ``clients``: GET requests alone."""
    with recording(upstream) as record:
        yield record


@pytest.fixture
async def clients(seen: Recording) -> AsyncIterator[S3Clients]:
    """Clients whose requests are noted."""
    opened = S3Clients(endpoint_url=seen.url, region="us-east-1")
    yield opened
    await opened.close()


@pytest.fixture
async def direct(upstream: str) -> AsyncIterator[S3Clients]:
    """Clients that speak to the S3 API itself."""
    opened = S3Clients(endpoint_url=upstream, region="us-east-1")
    yield opened
    await opened.close()


@pytest.fixture
async def slow_storage() -> AsyncIterator[SlowStorage]:
    """An S3 API that takes its time, served."""
    storage = SlowStorage()
    async with running(Starlette(routes=[Route("/{path:path}", storage)])) as url:
        storage.url = url
        storage.clients = S3Clients(endpoint_url=url, region="us-east-1")
        yield storage
        await storage.clients.close()
