"""The audit: security events, and calls.

``security`` has what was rejected, denied or revoked; ``calls`` has who called which tool.
"""
