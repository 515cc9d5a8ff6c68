"""An operator's web console: sessions, their history, revocation, issuers and live rates.

A program of its own, over ``SessionAdminService`` alone; nothing else of authsvc knows it.
"""
