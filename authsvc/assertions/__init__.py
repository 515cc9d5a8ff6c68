"""Assertions: JWTs by which authsvc tells an upstream who is asking. Keys, signatures, JWK Set."""
