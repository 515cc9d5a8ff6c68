"""Helpers without a domain: bounded containers, argument checks, loading settings."""
