"""Addresses, URLs, TLS and HTTP fetching: what reaches other hosts."""
