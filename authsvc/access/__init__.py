"""Registered callers, their limits, and the audit log."""
