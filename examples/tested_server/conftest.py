"""The fixtures of ``mcp_adapter.testing``, for this server's resource."""

from __future__ import annotations

import pytest
from server import RESOURCE

pytest_plugins = ["mcp_adapter.testing.plugin"]


@pytest.fixture
def authsvc_resource() -> str:
    """The resource of ``in_memory_authsvc``."""
    return RESOURCE
