"""What people use in place of authsvc, doing the same work, measured and questioned in one run.

Each peer validates the token of a request, knows its session, and tells a trivial tool who asks.
"""
