"""Practises the runbooks: each drill does one of them under load, and counts the calls that fail.

Run with ``python -m drills``. An installation of its own, real processes and nothing simulated:
three replicas of authsvc over TLS, a Valkey, two adapters, and MCP clients that call them.
"""

import os

# Processes are started beside channels, and gRPC would say each time that it is not prepared.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
