"""The tools, and how one is made: a typed function, with what it needs declared beside it.

This is what a package with tools of its own imports; ``docs/tools.md`` shows one.
"""

from authsvc.common import extras

extras.need(__name__, "adapter", "aiobotocore", "mcp", "pydantic_settings")
# isort: split

from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.declaration import LinkingAnswer, Tool, tool
from mcp_adapter.tools.toolset import Toolset

__all__ = ["Call", "LinkingAnswer", "Tool", "ToolError", "Toolset", "tool"]
