"""The gate in front of a user's MCP server. Its public names are those of ``mcp_adapter``."""

from authsvc.common import extras

# The message names what users import: the modules in here are private.
extras.need("mcp_adapter", "middleware", "anyio", "mcp_types", "starlette")
