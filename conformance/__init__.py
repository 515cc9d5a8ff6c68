"""MCP's own conformance suite, run against the adapter. See ``docs/reference/conformance.md``."""
