"""Registered callers, and their limits."""
