"""How long tests wait for what is going to happen."""

TIMEOUT_SECONDS = 120.0
"""Ends a test that would wait for ever, and measures nothing: a busy machine stays far below it."""
