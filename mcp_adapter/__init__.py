"""mcp_adapter: the ASGI layer that gives each request of an MCP server its own identity."""
