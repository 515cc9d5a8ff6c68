"""The gate in front of a user's MCP server."""
