"""Metrics, traces and logs of the programs. None of it takes part in a decision.

No label and no attribute holds a token, a subject, a session id or a peer's address, and none has
an unbounded set of values: issuers and callers are configured, all others are enumerations.
"""
