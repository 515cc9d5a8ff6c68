"""MCP over Streamable HTTP, without a session in the process."""
