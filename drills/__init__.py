"""Practises the runbooks: each drill does one of them under load, and counts the calls that fail.

Run with ``python -m drills``. An installation of its own, real processes and nothing simulated:
three replicas of authsvc over TLS, a Valkey, two adapters, and MCP clients that call them.
"""
