"""Faults, injected into a running service under load, and the history checked against the promises.

Run with ``python -m chaos``.
"""
