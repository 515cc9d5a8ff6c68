"""Injects faults into a running service under load, and checks the guarantees in its history.

Run with ``python -m chaos``.
"""
