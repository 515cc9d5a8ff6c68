"""Digests, as records and documents are named by them. Pure."""

from __future__ import annotations

import base64
import hashlib


def text_digest(text: str) -> str:
    """SHA-256 of a text in base64url without padding: 43 letters, digits, ``_`` and ``-``."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
