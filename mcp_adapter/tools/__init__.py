"""The tools, and how one is made: a typed function, with what it needs declared beside it."""

from mcp_adapter.tools.toolset import Toolset

__all__ = ["Toolset"]
