"""What gateways ask over gRPC about HTTP requests to MCP servers."""
