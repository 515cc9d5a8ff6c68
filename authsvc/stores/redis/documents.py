"""The documents: a string each, in the first partition."""

from __future__ import annotations

from authsvc.stores.documents import Document
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link


class DocumentStrings:
    """Reads and writes documents. Every method raises ``AuthError`` STORE_UNAVAILABLE.

    Args:
        link: runs the commands.
        base: what the partition's keys begin with.
    """

    def __init__(self, link: Link, base: str) -> None:
        self._link = link
        self._base = base

    async def get(self, name: str) -> Document | None:
        """See ``DocumentStore.document``."""
        value: bytes | None = await self._link.ask("GET", f"{self._base}:d:{name}")
        if value is None:
            return None
        revision, _, content = value.partition(b"\n")
        return Document(int(revision), content)

    async def confirm(self, name: str) -> None:
        """See ``DocumentStore.confirm_document``."""
        await self._link.write(scripts.CONFIRM_DOCUMENT, self._base, name)

    async def put(self, name: str, document: Document) -> bool:
        """See ``DocumentStore.put_document``."""
        written = await self._link.write(
            scripts.PUT_DOCUMENT, self._base, name, document.revision, document.content
        )
        return written is not None
