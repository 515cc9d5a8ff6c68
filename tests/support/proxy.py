"""A TCP proxy with faults; it is chaos's, and documented there."""

from __future__ import annotations

from chaos.proxy import FEED_WORDS, Proxy, proxied

__all__ = ["FEED_WORDS", "Proxy", "proxied"]
