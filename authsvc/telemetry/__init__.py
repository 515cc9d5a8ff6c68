"""What operators see of a running service: metrics and traces. Neither decides anything.

No label and no attribute holds a token, a subject, a session id or an address of a peer, and none
takes values without bound: issuers and callers are configured, all else is of an enumeration.
"""
