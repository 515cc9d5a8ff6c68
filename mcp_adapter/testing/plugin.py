"""Fixtures for pytest. In ``conftest.py``: ``pytest_plugins = ["mcp_adapter.testing.plugin"]``."""

from __future__ import annotations

import pytest

from mcp_adapter.testing.in_memory import InMemoryAuthsvc


@pytest.fixture
def authsvc_resource() -> str:
    """The resource of ``in_memory_authsvc``. Override it with that of your server."""
    return "https://mcp.example/mcp"


@pytest.fixture
def in_memory_authsvc(authsvc_resource: str) -> InMemoryAuthsvc:
    """An authsvc without sessions, not open yet: a gate that is given it opens it."""
    return InMemoryAuthsvc(authsvc_resource)
