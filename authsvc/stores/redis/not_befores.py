"""All not-befores of a server, read in chunks."""

from __future__ import annotations

from authsvc.domain.revocation import NotBefore
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.records import decode_not_before_value

SCAN_COUNT = 1000
"""Not-befores that one command reads, about."""


def not_befores_key(base: str) -> str:
    """The key of the hash of not-befores."""
    return f"{base}:not_befores"


async def all_not_befores(link: Link, base: str) -> list[NotBefore]:
    """Every not-before.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    found: list[NotBefore] = []
    cursor = "0"
    while True:
        answer = await link.ask("HSCAN", not_befores_key(base), cursor, "COUNT", SCAN_COUNT)
        position, fields = answer
        found += [decode_not_before_value(value) for value in fields.values()]
        cursor = position.decode() if isinstance(position, bytes) else str(position)
        if cursor == "0":
            return found
