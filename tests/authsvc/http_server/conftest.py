"""On both event loops: the console runs on asyncio's, the adapter on uvloop's."""

from __future__ import annotations

import sys

import pytest

UVLOOP = pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not there")


@pytest.fixture(
    params=[
        pytest.param({"use_uvloop": False}, id="asyncio"),
        pytest.param({"use_uvloop": True}, id="uvloop", marks=UVLOOP),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loop that async tests run on."""
    return "asyncio", request.param
