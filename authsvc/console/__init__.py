"""The operators' web console: sessions and their events, revocation, issuers, and live rates.

A program of its own. It calls ``SessionAdminService``, and nothing else of authsvc.
"""
