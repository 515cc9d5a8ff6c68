"""Signals of identity providers: sign-outs and other events that end access here.

A logout token (OpenID Connect Back-Channel Logout 1.0) or a security event token (RFC 8417) is
verified, each of its events becomes revocations, and these are durable before it is acknowledged.
"""
